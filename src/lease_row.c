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
 * After a 40001 the transaction begins anew, with a younger snapshot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "duration.h"
#include "errors.h"
#include "fence.h"
#include "lease_row.h"
#include "settings.h"
#include "token.h"
#include "wake.h"

static void check_snapshot(LockTable *table, const LockKey *key,
						   const LockRow *row);
static void check_grant_visible(LockTable *table, const LockKey *key,
								const LockRow *row);
pg_noreturn static void error_stale_snapshot(const LockKey *key);
static void survive_crash(void);

void
lease_row_grant(LockTable *table, const AcquireRequest *request,
				const LockRow *row, TimestampTz now, Grant *grant)
{
	LockRow		new_row;

	if (row != NULL)
		check_snapshot(table, &request->key, row);

	grant->token = request->token ? request->token : token_generate();

	new_row.key = request->key.value;
	new_row.token = grant->token;
	new_row.owner = request->owner;
	new_row.data = request->data;
	new_row.ttl = request->ttl;
	new_row.acquired_at = now;
	new_row.expires_at = duration_end(now, request->ttl);
	new_row.pid = MyProcPid;
	new_row.role = GetUserId();
	new_row.permit = 0;
	new_row.scope = SCOPE_LEASE;
	new_row.fence = grant->fence = fence_next(row ? row->fence : 0);

	if (row != NULL)
		lock_table_update_found(table, &new_row);
	else
		lock_table_insert(table, &new_row);
	survive_crash();
}

void
lease_row_extend(LockTable *table, const LockKey *key, const LockRow *row,
				 int64 ttl, TimestampTz expires_at)
{
	LockRow		new_row = *row;

	new_row.ttl = ttl;
	new_row.expires_at = expires_at;

	/* Who waits would otherwise sleep until the old end. */
	if (expires_at < row->expires_at)
		wake_at_commit(key);
	lock_table_update_found(table, &new_row);
	survive_crash();
}

void
lease_row_renew(LockTable *table, const AcquireRequest *request,
				const LockRow *row, TimestampTz now, Grant *grant)
{
	LockRow		new_row = *row;

	check_grant_visible(table, &request->key, row);
	grant->token = request->token;
	grant->fence = row->fence;
	if (request->owner != NULL)
		new_row.owner = request->owner;
	if (request->data != NULL)
		new_row.data = request->data;
	lease_row_extend(table, &request->key, &new_row, request->ttl,
					 duration_end(now, request->ttl));
}

void
lease_row_free(LockTable *table, const LockKey *key, const LockRow *row,
			   TimestampTz now)
{
	LockRow		new_row = *row;

	new_row.token = new_row.owner = new_row.data = NULL;
	new_row.expires_at = now;
	lock_table_update_found(table, &new_row);
	wake_at_commit(key);
}

static void
check_snapshot(LockTable *table, const LockKey *key, const LockRow *row)
{
	if (!IsolationUsesXactSnapshot() || lock_table_found_is_own(table))
		return;

	if (!lock_table_found_visible(table, GetTransactionSnapshot()))
		error_stale_snapshot(key);
	if (row->token != NULL &&
		row->expires_at >= GetCurrentTransactionStartTimestamp())
		error_stale_snapshot(key);
}

/*
 * Several processes may share a token.  To one that joins, the work before
 * the grant has to be visible; it is if the grant is.
 */
static void
check_grant_visible(LockTable *table, const LockKey *key, const LockRow *row)
{
	Snapshot	snapshot;

	if (!IsolationUsesXactSnapshot())
		return;

	snapshot = GetTransactionSnapshot();
	if (lock_table_found_visible(table, snapshot))
		return;
	/* This version may be an extend; look for the grant itself. */
	if (lock_table_fence_seen_by(table, key, snapshot) != row->fence)
		error_stale_snapshot(key);
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

/*
 * A holder that was told it has the lock must still have it after a crash.
 */
static void
survive_crash(void)
{
	if (setting_durable)
		ForceSyncCommit();
}
