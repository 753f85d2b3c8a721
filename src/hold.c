/*-------------------------------------------------------------------------
 *
 * hold.c
 *	  What this transaction holds until it ends: locks of transaction scope,
 *	  and guards.
 *
 * They live in the key lock, which excludes others, and in the memory of the
 * backend, which knows their tokens.  They write no row, and when all that a
 * transaction does is to read, it needs no transaction id.
 *
 * If it has written anything, it touches the row of the key before it commits.
 * A REPEATABLE READ transaction that acquires the lock later, with an older
 * snapshot, finds that version of the row invisible to it and knows that there
 * is work it cannot see (lease_row.c).  That goes for guards too: their work
 * may be committed when the lease has long expired.
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
#include "errors.h"
#include "fail_point.h"
#include "fence.h"
#include "hold.h"
#include "holder.h"
#include "key.h"
#include "key_lock.h"
#include "lock_table.h"
#include "purge.h"
#include "stats.h"
#include "text_bytes.h"
#include "token.h"

/* Hold *, in TopTransactionContext, in the order of the calls. */
static List *holds = NIL;

/*
 * The same by the hashes of their keys: each call asks whether its key is among
 * them, and there can be thousands.  The newest comes first.
 */
#define NUM_BUCKETS 1024
static Hold *buckets[NUM_BUCKETS];

/* No hold was released at a deeper nesting level than this. */
static int	deepest_release = 0;

static Hold **bucket(const LockKey *key);
static Hold *find(HoldKind kind, const LockKey *key, const text *token);
static int	compare_holds(const ListCell *a, const ListCell *b);
static void touch(LockTable *table, const Hold *hold);

Hold *
hold_add(HoldKind kind, const LockKey *key, const text *token, int64 ttl,
		 int64 fence)
{
	MemoryContext saved = MemoryContextSwitchTo(TopTransactionContext);
	Hold	   *hold = palloc(sizeof(Hold));

	hold->kind = kind;
	key_from_stored(&hold->key, text_copy(key->value));
	hold->token = text_copy(token);
	hold->ttl = ttl;
	hold->fence = fence;
	hold->idle = false;
	hold->since = GetCurrentTimestamp();
	hold->level = GetCurrentTransactionNestLevel();
	hold->released_level = 0;
	holds = lappend(holds, hold);
	hold->next = *bucket(&hold->key);
	*bucket(&hold->key) = hold;
	MemoryContextSwitchTo(saved);
	return hold;
}

Hold *
hold_find_lock(const LockKey *key, const text *token)
{
	return find(HOLD_LOCK, key, token);
}

Hold *
hold_find_guard(const LockKey *key, const text *token)
{
	return find(HOLD_GUARD, key, token);
}

bool
hold_covers(const LockKey *key)
{
	for (Hold *hold = *bucket(key); hold != NULL; hold = hold->next)
	{
		if (hold->released_level == 0 && key_equal(&hold->key, key))
			return true;
	}
	return false;
}

int64
hold_fence(Hold *hold)
{
	LockTable	table;
	LockRow		row;
	bool		found;

	if (hold->fence == 0)
	{
		error_unless_writable("the drawing of a fence");
		lock_table_open(&table, RowExclusiveLock);
		found = lock_table_find(&table, &hold->key, &row);
		hold->fence = fence_next(found ? row.fence : 0);
		lock_table_close(&table, true);
	}
	return hold->fence;
}

void
hold_release(Hold *hold)
{
	hold->released_level = GetCurrentTransactionNestLevel();
	deepest_release = Max(deepest_release, hold->released_level);
}

void
hold_release_guards(const LockKey *key)
{
	for (Hold *hold = *bucket(key); hold != NULL; hold = hold->next)
	{
		if (hold->kind == HOLD_GUARD && hold->released_level == 0 &&
			key_equal(&hold->key, key))
			hold_release(hold);
	}
}

int
hold_count(const text *token, bool release)
{
	ListCell   *cell;
	int			count = 0;

	foreach(cell, holds)
	{
		Hold	   *hold = lfirst(cell);

		if (hold->kind != HOLD_LOCK || hold->released_level != 0 ||
			!token_equal(hold->token, token))
			continue;
		count++;
		if (release)
			hold_release(hold);
	}
	return count;
}

/*
 * This goes for PREPARE TRANSACTION too.
 */
void
hold_at_pre_commit(void)
{
	LockTable	table;
	ListCell   *cell;

	if (holds == NIL || !TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	if (lock_table_try_open(&table, RowExclusiveLock) != LOCK_TABLE_OPEN)
		return;					/* dropped by this transaction */

	/* In the order in which everybody locks several keys at a time. */
	PushActiveSnapshot(GetTransactionSnapshot());
	list_sort(holds, compare_holds);
	foreach(cell, holds)
		touch(&table, lfirst(cell));
	FAIL_POINT("precommit_touched");
	PopActiveSnapshot();
	lock_table_close(&table, true);
}

void
hold_at_subxact_end(bool committed)
{
	int			level = GetCurrentTransactionNestLevel();
	ListCell   *cell;

	if (deepest_release >= level)
	{
		foreach(cell, holds)
		{
			Hold	   *hold = lfirst(cell);

			if (hold->released_level >= level)
				hold->released_level = committed ? level - 1 : 0;
		}
		deepest_release = level - 1;
	}

	/* Those of inner levels are at the end of the list, and first in buckets. */
	for (int i = list_length(holds) - 1; i >= 0; i--)
	{
		Hold	   *hold = list_nth(holds, i);

		if (hold->level < level)
			break;
		if (committed)
			hold->level = level - 1;
		else
		{
			*bucket(&hold->key) = hold->next;
			holds = list_truncate(holds, i);
		}
	}
}

/*
 * Locks of scope "transaction" are counted when they end.
 */
void
hold_at_xact_end(bool committed)
{
	ListCell   *cell;

	if (committed)
	{
		foreach(cell, holds)
		{
			Hold	   *hold = lfirst(cell);

			if (hold->kind != HOLD_LOCK)
				continue;
			stats_granted(hold->key.hash);
			stats_ended(COUNT_RELEASES, GetCurrentTimestamp() - hold->since);
		}
	}
	if (holds != NIL)
		memset(buckets, 0, sizeof(buckets));
	holds = NIL;
	deepest_release = 0;
}

/*
 * Make a new version of the key's row, unless this transaction has made one.
 *
 * A guard shares the key lock with other guards and with extends, so that it
 * has to ask for the right to write; nobody who has that right waits for a
 * guard to end, except to release or take over.
 */
static void
touch(LockTable *table, const Hold *hold)
{
	LockRow		row;
	LockRow		former;
	TimestampTz now;

	FAIL_POINT("precommit_touching");
	if (hold->kind == HOLD_GUARD)
		key_lock_wait(&hold->key, ShareUpdateExclusiveLock);

	now = GetCurrentTimestamp();
	if (lock_table_find(table, &hold->key, &row))
	{
		if (lock_table_found_is_own(table))
			return;
		former = row;
		if (hold->kind == HOLD_LOCK)
		{
			/* Who held it before us is gone, and must not come back. */
			row.fence = Max(row.fence, hold->fence);
			row.token = row.owner = row.data = NULL;
			row.expires_at = Min(row.expires_at, now);
			row.incarnation = 0;
			row.scope = SCOPE_TRANSACTION;
		}
		if (lock_table_update_found(table, &row) &&
			hold->kind == HOLD_LOCK && former.token != NULL)
			changes_add(EVENT_EXPIRED, &former, holder_ended_at(&former, now));
	}
	else
	{
		row.key = hold->key.value;
		row.token = row.owner = row.data = NULL;
		row.fence = hold->fence;
		row.ttl = hold->ttl;
		row.acquired_at = row.expires_at = now;
		row.pid = MyProcPid;
		row.role = GetUserId();
		row.permit = 0;
		row.scope = SCOPE_TRANSACTION;
		row.incarnation = 0;
		lock_table_insert(table, &row);
		purge_owe_one();
	}
}

static int
compare_holds(const ListCell *a, const ListCell *b)
{
	uint64		x = ((Hold *) lfirst(a))->key.hash;
	uint64		y = ((Hold *) lfirst(b))->key.hash;

	return (x > y) - (x < y);
}

static Hold **
bucket(const LockKey *key)
{
	return &buckets[key->hash % NUM_BUCKETS];
}

/*
 * A hold of this kind that is not released; any token when token is NULL.
 */
static Hold *
find(HoldKind kind, const LockKey *key, const text *token)
{
	for (Hold *hold = *bucket(key); hold != NULL; hold = hold->next)
	{
		if (hold->kind == kind && hold->released_level == 0 &&
			key_equal(&hold->key, key) &&
			(token == NULL || token_equal(hold->token, token)))
			return hold;
	}
	return NULL;
}
