/*-------------------------------------------------------------------------
 *
 * lease_row.c
 *	  The changes that the row of a key goes through.
 *
 * Isolation.  In a REPEATABLE READ or SERIALIZABLE transaction, who is granted
 * a lock goes on reading with a snapshot that may be older than the grant.  If
 * the previous holder's work is not in that snapshot, the new holder would
 * work with stale data under a fresh lock; it gets 40001 instead.  When is the
 * work surely visible?
 *
 * - A holder that released: the release is part of a transaction that ended
 *	 no earlier than the work it protects; if the snapshot sees the free row,
 *	 it sees the work.
 * - A holder that let its lease expire may have worked until then: the
 *	 snapshot must see the row, and be younger than the expiry.  The time of a
 *	 snapshot is not known, but it is no earlier than the transaction's start.
 * - No row: none was ever granted, or the row was purged, which is done only
 *	 when every snapshot sees it free.
 *
 * - A holder whose session has ended: when is not known, only when it was found
 *	 so.  The snapshot must be younger than that, or nothing at all may have been
 *	 committed since it was taken; so that a retry succeeds sooner or later even
 *	 if each attempt has a session of its own.
 * - A row that this transaction has written itself, by releasing, extending
 *	 or forcing it: what was there before is remembered.
 *
 * After a 40001 the transaction begins anew, with a younger snapshot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "changes.h"
#include "duration.h"
#include "errors.h"
#include "fail_point.h"
#include "fence.h"
#include "holder.h"
#include "incarnation.h"
#include "lease_row.h"
#include "session_lock.h"
#include "settings.h"
#include "token.h"
#include "wake.h"

/*
 * Keys (uint64 *, hashes) whose previous holder's work this transaction's
 * snapshot may not show, though it has itself written the row since.  In
 * TopTransactionContext.
 */
static List *stale_keys = NIL;

static void remember_if_stale(LockTable *table, const LockKey *key,
							  const LockRow *row, bool forced);
static bool nothing_committed_since(Snapshot snapshot);
static void check_not_stale(const LockKey *key);
static void update(LockTable *table, const LockRow *row);
pg_noreturn static void error_stale_snapshot(const LockKey *key);
static void free_row(LockRow *new_row, const LockRow *row, TimestampTz now);
static void survive_crash(void);

void
lease_row_grant(LockTable *table, const AcquireRequest *request,
				const LockRow *row, TimestampTz now, Grant *grant)
{
	LockRow		new_row;

	if (row != NULL && !request->commits_first)
		lease_row_check_snapshot(table, &request->key, row);

	/* Who finds a lock lapsed, and ends it, says so. */
	if (row != NULL && row->token != NULL && !holder_is_live(row, now))
		changes_add(EVENT_EXPIRED, row, holder_ended_at(row, now));

	grant->token = request->token ? request->token : token_generate();
	FAIL_POINT("acquire_after_token");

	new_row.key = request->key.value;
	new_row.token = grant->token;
	new_row.owner = request->owner;
	new_row.data = request->data;
	new_row.ttl = request->ttl;
	new_row.acquired_at = now;
	new_row.expires_at = request->scope == SCOPE_SESSION ?
		DT_NOEND : duration_end(now, request->ttl);
	new_row.incarnation = request->scope == SCOPE_SESSION ?
		incarnation_start() : 0;
	new_row.pid = MyProcPid;
	new_row.role = GetUserId();
	new_row.permit = 0;
	new_row.scope = request->scope;
	new_row.fence = grant->fence = fence_next(row ? row->fence : 0);
	FAIL_POINT("acquire_after_fence");

	if (request->scope == SCOPE_SESSION)
	{
		session_lock_take(grant->fence);
		FAIL_POINT("acquire_after_session_lock");
	}

	if (row != NULL)
		update(table, &new_row);
	else
		lock_table_insert(table, &new_row);
	FAIL_POINT("acquire_after_write");
	changes_add(EVENT_GRANTED, &new_row, now);
	survive_crash();
}

TimestampTz
lease_row_extend(LockTable *table, const LockKey *key, const LockRow *row,
				 int64 ttl, TimestampTz now)
{
	LockRow		new_row = *row;

	new_row.ttl = ttl;
	if (row->scope != SCOPE_SESSION)
		new_row.expires_at = duration_end(now, ttl);

	remember_if_stale(table, key, row, false);

	/* Who waits would otherwise sleep until the old end. */
	if (new_row.expires_at < row->expires_at)
		wake_at_commit(key);
	update(table, &new_row);
	changes_add(EVENT_EXTENDED, &new_row, now);
	survive_crash();
	return holder_end(&new_row);
}

void
lease_row_renew(LockTable *table, const AcquireRequest *request,
				const LockRow *row, TimestampTz now, Grant *grant)
{
	LockRow		new_row = *row;

	lease_row_check_grant_visible(table, &request->key, row);
	grant->token = request->token;
	grant->fence = row->fence;
	if (request->owner != NULL)
		new_row.owner = request->owner;
	if (request->data != NULL)
		new_row.data = request->data;
	if (row->scope == SCOPE_SESSION)
	{
		/*
		 * It may have been reserved since the server's last crash, or be
		 * another session's too: the row shows who came last.
		 */
		new_row.pid = MyProcPid;
		new_row.role = GetUserId();
		new_row.incarnation = incarnation_start();
		session_lock_take(row->fence);
	}
	lease_row_extend(table, &request->key, &new_row, request->ttl, now);
}

void
lease_row_free(LockTable *table, const LockKey *key, const LockRow *row,
			   TimestampTz now, bool forced)
{
	LockRow		new_row;

	remember_if_stale(table, key, row, forced);
	if (!forced)
		changes_add(EVENT_RELEASED, row, now);
	free_row(&new_row, row, now);
	update(table, &new_row);
	if (row->scope == SCOPE_SESSION)
		session_lock_drop_at_commit(row->fence);
	wake_at_commit(key);
}

bool
lease_row_purge(LockTable *table, const LockRow *row, TimestampTz now)
{
	LockRow		new_row;

	TimestampTz ended_at = holder_ended_at(row, now);

	free_row(&new_row, row, Min(now, row->expires_at));
	if (!lock_table_update_found(table, &new_row))
		return false;
	changes_add(EVENT_EXPIRED, row, ended_at);
	return true;
}

void
lease_row_at_xact_end(void)
{
	stale_keys = NIL;
}

void
lease_row_check_snapshot(LockTable *table, const LockKey *key, const LockRow *row)
{
	TimestampTz ended;

	if (!IsolationUsesXactSnapshot())
		return;
	check_not_stale(key);
	if (lock_table_found_is_own(table))
		return;

	if (!lock_table_found_visible(table, GetTransactionSnapshot()))
		error_stale_snapshot(key);
	if (row->token == NULL)
		return;
	if (row->scope == SCOPE_SESSION)
	{
		if (nothing_committed_since(GetTransactionSnapshot()))
			return;
		ended = holder_seen_ended(row);
	}
	else
		ended = row->expires_at;
	if (ended >= GetCurrentTransactionStartTimestamp())
		error_stale_snapshot(key);
}

/*
 * Several processes may share a token.  To one that joins, the work before
 * the grant has to be visible; it is if the grant is.
 */
void
lease_row_check_grant_visible(LockTable *table, const LockKey *key, const LockRow *row)
{
	Snapshot	snapshot;

	if (!IsolationUsesXactSnapshot())
		return;

	check_not_stale(key);
	snapshot = GetTransactionSnapshot();
	if (lock_table_found_visible(table, snapshot))
		return;
	/* This version may be an extend; look for the grant itself. */
	if (lock_table_fence_seen_by(table, key, snapshot) != row->fence)
		error_stale_snapshot(key);
}

/*
 * This transaction is about to write its own version over a grant: will its
 * snapshot then still show what it has to be judged by?
 */
static void
remember_if_stale(LockTable *table, const LockKey *key, const LockRow *row,
				  bool forced)
{
	MemoryContext saved;
	uint64	   *hash;

	if (!IsolationUsesXactSnapshot() || lock_table_found_is_own(table))
		return;
	if (!forced &&
		lock_table_fence_seen_by(table, key,
								 GetTransactionSnapshot()) == row->fence)
		return;

	saved = MemoryContextSwitchTo(TopTransactionContext);
	hash = palloc(sizeof(uint64));
	*hash = key->hash;
	stale_keys = lappend(stale_keys, hash);
	MemoryContextSwitchTo(saved);
}

/*
 * Would a snapshot taken now show the same?
 */
static bool
nothing_committed_since(Snapshot snapshot)
{
	Snapshot	latest = GetLatestSnapshot();

	if (latest->xmax != snapshot->xmax || latest->xcnt != snapshot->xcnt ||
		latest->subxcnt != snapshot->subxcnt ||
		latest->suboverflowed != snapshot->suboverflowed)
		return false;

	/* As many were in progress as are now; it remains to see if the same. */
	for (uint32 i = 0; i < latest->xcnt; i++)
	{
		bool		same = false;

		for (uint32 j = 0; j < snapshot->xcnt && !same; j++)
			same = TransactionIdEquals(latest->xip[i], snapshot->xip[j]);
		if (!same)
			return false;
	}
	return true;
}

static void
check_not_stale(const LockKey *key)
{
	ListCell   *cell;

	foreach(cell, stale_keys)
	{
		if (*(uint64 *) lfirst(cell) == key->hash)
			error_stale_snapshot(key);
	}
}

static void
error_stale_snapshot(const LockKey *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to a change of hands of lock \"%s\"",
					error_key(key)),
			 errdetail("The previous holder's work may not be visible to this transaction."),
			 errhint("The transaction might succeed if retried.")));
}

static void
free_row(LockRow *new_row, const LockRow *row, TimestampTz now)
{
	*new_row = *row;
	new_row->token = new_row->owner = new_row->data = NULL;
	new_row->expires_at = now;
	new_row->incarnation = 0;
}

static void
update(LockTable *table, const LockRow *row)
{
	if (!lock_table_update_found(table, row))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a row of the lock table is being changed by a statement"),
				 errhint("Only the functions of distlock may write to it.")));
}

/*
 * A holder that was told it has the lock must still have it after a crash.
 */
static void
survive_crash(void)
{
	if (setting_durable)
		ForceSyncCommit();
}
