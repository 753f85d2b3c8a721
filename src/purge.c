/*-------------------------------------------------------------------------
 *
 * purge.c
 *	  Getting rid of rows that nobody needs any more.
 *
 * A free row can go when every snapshot sees it free, so that nobody has to
 * ask it whether a previous holder's work is visible (lease_row.c).  A lease
 * that has expired is first made a free row: that is the event which snapshots
 * can be compared with.  So it takes two visits, with time in between.
 *
 * Keys that come again keep their row; keys that never do are why this is
 * needed.  Each transaction that adds a row looks at a page of the table for
 * every row added and removes some rows there, so that the number of rows
 * not needed does not grow beyond those of the last seconds and what snapshots
 * hold back.  The space of the
 * rows is used again (lock_page_visit); dead index entries are left to
 * autovacuum, for which the table has thresholds of its own.
 *
 * Nothing here waits, and nothing fails for want of a lock: rows that others
 * are at are left alone.  A key lock taken here is held only until the commit
 * which is already under way.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "common/pg_prng.h"
#include "nodes/pg_list.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "fail_point.h"
#include "holder.h"
#include "key_lock.h"
#include "lease_row.h"
#include "lock_page.h"
#include "lock_table.h"
#include "mirror_marks.h"
#include "purge.h"
#include "session_lock.h"
#include "settings.h"
#include "text_bytes.h"

/* At most so many pages at a commit, however many rows were added. */
#define PAGES_PER_COMMIT 8

/*
 * At most so many rows a page at a commit.  On the average as many are removed
 * as are added, but not every page has some.
 */
#define ROWS_PER_PAGE_AT_COMMIT 16

/* So many pages in a step of purge(): a transaction of a few milliseconds. */
#define PAGES_PER_STEP 16

static int	pages_owed = 0;

/* The page this session looks at next; each begins somewhere else. */
static BlockNumber next_page = InvalidBlockNumber;

/* What a sweep of a page is after. */
typedef struct Sweep
{
	TimestampTz ended_before;
	List	   *candidates;
} Sweep;

/* A row that a sweep thinks is no longer needed. */
typedef struct Candidate
{
	text	   *key;
	int64		session_fence;	/* of a lock of scope "session", which may be
								 * held; 0 for others */
} Candidate;

static void purge_page(LockTable *table, BlockNumber page,
					   TransactionId horizon, int max_rows,
					   TimestampTz ended_before);
static void sweep_row(const LockRow *row, bool pending, bool settled,
					  void *sweep);

void
purge_owe_one(void)
{
	if (pages_owed < PAGES_PER_COMMIT)
		pages_owed++;
}

void
purge_at_pre_commit(void)
{
	MemoryContext context;
	MemoryContext saved;
	LockTable	table;
	TransactionId horizon;
	BlockNumber pages;

	if (pages_owed == 0)
		return;
	if (mirror_marks_behind())
	{
		/* It might not have seen yet that they are free. */
		pages_owed = 0;
		return;
	}

	/*
	 * The commit may take as long as a standby is away; the keys would be
	 * locked all that time.
	 */
	if (SyncRepRequested() && SyncRepStandbyNames != NULL &&
		SyncRepStandbyNames[0] != '\0')
	{
		pages_owed = 0;
		return;
	}

	if (lock_table_try_open(&table, RowExclusiveLock) != LOCK_TABLE_OPEN)
	{
		/* This transaction has dropped or altered it. */
		pages_owed = 0;
		return;
	}

	context = AllocSetContextCreate(CurrentMemoryContext, "distlock purge",
									ALLOCSET_SMALL_SIZES);
	saved = MemoryContextSwitchTo(context);
	PushActiveSnapshot(GetTransactionSnapshot());
	horizon = lock_table_horizon(&table);
	pages = lock_table_pages(&table);
	if (next_page == InvalidBlockNumber && pages > 0)
		next_page = pg_prng_uint64_range(&pg_global_prng_state, 0, pages - 1);

	FAIL_POINT("precommit_purging");
	while (pages_owed > 0 && pages > 0)
	{
		pages_owed--;
		if (next_page >= pages)
			next_page = 0;
		purge_page(&table, next_page++, horizon, ROWS_PER_PAGE_AT_COMMIT,
				   GetCurrentTimestamp() -
				   setting_purge_after * INT64CONST(1000));
	}
	PopActiveSnapshot();
	lock_table_close(&table, true);
	MemoryContextSwitchTo(saved);
	MemoryContextDelete(context);
}

void
purge_at_xact_end(void)
{
	pages_owed = 0;
}

BlockNumber
purge_step(BlockNumber page)
{
	LockTable	table;
	TransactionId horizon;
	BlockNumber pages;

	PushActiveSnapshot(GetTransactionSnapshot());
	lock_table_open(&table, RowExclusiveLock);
	horizon = lock_table_horizon(&table);
	pages = lock_table_pages(&table);
	for (int i = 0; i < PAGES_PER_STEP && page < pages; i++)
		purge_page(&table, page++, horizon, PG_INT32_MAX,
				   GetCurrentTimestamp());
	FAIL_POINT("purge_step");
	lock_table_close(&table, true);
	PopActiveSnapshot();
	return page < pages ? page : InvalidBlockNumber;
}

PurgeResult
purge_row(LockTable *table, text *stored_key, TransactionId horizon)
{
	LockKey		key;
	LockRow		row;
	PurgeResult result = PURGE_NOT_NOW;
	bool		locked;

	key_from_stored(&key, stored_key);
	if (!queue_lock_pass_quietly(&key))
		return PURGE_NOT_NOW;	/* who waits for it, takes it */
	locked = key_lock_try_quietly(&key, ExclusiveLock);
	queue_lock_passed(&key);
	if (!locked)
		return PURGE_NOT_NOW;
	FAIL_POINT("purge_after_key_lock");

	if (!lock_table_find(table, &key, &row))
		result = PURGE_NOTHING;
	else if (row.token == NULL)
	{
		if (lock_table_found_settled(table, horizon) &&
			lock_table_delete_found(table))
		{
			FAIL_POINT("purge_deleted");
			result = PURGE_DELETED;
		}
	}
	else
	{
		TimestampTz now = GetCurrentTimestamp();

		if (holder_is_live(&row, now))
			result = PURGE_NOTHING;
		else if (lease_row_purge(table, &row, now))
		{
			FAIL_POINT("purge_freed");
			result = PURGE_FREED;
		}
	}
	if (result == PURGE_NOTHING || result == PURGE_NOT_NOW)
		key_lock_let_go(&key, ExclusiveLock);
	return result;
}

static void
purge_page(LockTable *table, BlockNumber page, TransactionId horizon,
		   int max_rows, TimestampTz ended_before)
{
	Sweep		sweep = {ended_before, NIL};
	ListCell   *cell;
	int			rows = 0;

	lock_page_visit(table, page, horizon, sweep_row, &sweep);
	foreach(cell, sweep.candidates)
	{
		Candidate  *candidate = lfirst(cell);
		PurgeResult result;

		if (rows >= max_rows)
			break;
		if (candidate->session_fence != 0 &&
			session_lock_is_held(candidate->session_fence))
			continue;
		result = purge_row(table, candidate->key, horizon);
		if (result == PURGE_FREED || result == PURGE_DELETED)
			rows++;
	}
}

static void
sweep_row(const LockRow *row, bool pending, bool settled, void *arg)
{
	Sweep	   *sweep = arg;
	Candidate  *candidate;
	bool		of_session = row->token != NULL && row->scope == SCOPE_SESSION;

	if (!settled || (!of_session && row->expires_at > sweep->ended_before))
		return;
	candidate = palloc(sizeof(Candidate));
	candidate->key = text_copy(row->key);
	candidate->session_fence = of_session ? row->fence : 0;
	sweep->candidates = lappend(sweep->candidates, candidate);
}
