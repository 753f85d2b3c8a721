/*-------------------------------------------------------------------------
 *
 * events.c
 *	  Announcing what happens to locks, by NOTIFY on channel "distlock".
 *
 * PostgreSQL delivers a notification if and when the transaction commits, to
 * sessions that listen in the same database.  What it costs is that commits of
 * transactions that notify happen one after the other; therefore only losses
 * are announced by default.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_database.h"
#include "commands/async.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"

#include "compat.h"
#include "events.h"
#include "row_json.h"
#include "settings.h"

#define CHANNEL "distlock"

/*
 * The queue of notifications is the whole server's, and a transaction that finds
 * it full fails: leave the rest of it to others.
 */
#define QUEUE_LIMIT 0.75

/*
 * What an event takes in the queue is its payload and little more; but since it
 * does not go across pages, up to as much again may be lost.
 */
#define ENTRY_OVERHEAD 64

#define ROOM_UNKNOWN PG_INT64_MIN

/* How much more this transaction may queue, in bytes. */
static int64 room = ROOM_UNKNOWN;

static const char *const names[] = {
	[EVENT_GRANTED] = "granted",
	[EVENT_EXTENDED] = "extended",
	[EVENT_RELEASED] = "released",
	[EVENT_EXPIRED] = "expired",
	[EVENT_FORCED] = "forced",
	[EVENT_EXPIRING] = "expiring",
};

static void notify_lock_tag(LOCKTAG *tag);

bool
event_is_wanted(EventKind kind)
{
	return kind == EVENT_EXPIRING ? setting_expiry_warning > 0 :
		(setting_events & (1 << kind)) != 0;
}

/*
 * 768 bytes of key and owner are at most 4,608 in JSON: a control character
 * takes six.
 */
char *
event_payload(EventKind kind, const LockRow *row, TimestampTz at)
{
	StringInfoData payload;

	initStringInfo(&payload);
	appendStringInfo(&payload, "{\"version\":1,\"event\":\"%s\",\"key\":",
					 names[kind]);
	escape_json(&payload, text_to_cstring(row->key));
	appendStringInfoChar(&payload, ',');
	row_json_append(&payload, row);
	appendStringInfoString(&payload, ",\"at\":");
	row_json_append_time(&payload, at);
	appendStringInfoChar(&payload, '}');
	return payload.data;
}

void
event_lock_take(void)
{
	LOCKTAG		tag;

	notify_lock_tag(&tag);
	(void) LockAcquire(&tag, AccessExclusiveLock, false, false);
}

bool
event_lock_is_held(void)
{
	LOCKTAG		tag;

	notify_lock_tag(&tag);
	return compat_lock_held(&tag, AccessExclusiveLock);
}

/*
 * PreCommit_Notify() takes it: "database 0".
 */
static void
notify_lock_tag(LOCKTAG *tag)
{
	SET_LOCKTAG_OBJECT(*tag, InvalidOid, DatabaseRelationId, InvalidOid, 0);
}

bool
event_send(const char *payload)
{
	int64		size = 2 * (int64) strlen(payload) + ENTRY_OVERHEAD;

	/* Asked once a transaction: what it sends is queued when it commits. */
	if (room == ROOM_UNKNOWN)
		room = (QUEUE_LIMIT -
				DatumGetFloat8(DirectFunctionCall1(pg_notification_queue_usage,
												   (Datum) 0))) *
			compat_notification_queue_size();
	if (room < size)
		return false;
	room -= size;
	Async_Notify(CHANNEL, payload);
	return true;
}

void
event_at_xact_end(void)
{
	room = ROOM_UNKNOWN;
}
