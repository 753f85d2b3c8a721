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
 * rows is used again (lock_table_sweep_page); dead index entries are left to
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

#include "holder.h"
#include "key_lock.h"
#include "lease_row.h"
#include "lock_table.h"
#include "purge.h"
#include "session_lock.h"
#include "wake.h"

/* At most so many pages at a commit, however many rows were added. */
#define PAGES_PER_COMMIT 8

/*
 * At most so many rows a page at a commit.  On the average as many are removed
 * as are added, but not every page has some.
 */
#define ROWS_PER_PAGE_AT_COMMIT 16

/*
 * At a commit, rows whose lock ended not longer ago are left alone: their keys
 * may be about to come again, and would find themselves locked until the commit
 * is through.
 */
#define MIN_AGE_AT_COMMIT (10 * USECS_PER_SEC)

/* So many pages in a step of purge(): a transaction of a few milliseconds. */
#define PAGES_PER_STEP 16

static int	pages_owed = 0;

/* The page this session looks at next; each begins somewhere else. */
static BlockNumber next_page = InvalidBlockNumber;

static void purge_page(LockTable *table, BlockNumber page,
					   TransactionId horizon, int max_rows,
					   TimestampTz ended_before);
static bool purge_row(LockTable *table, const PurgeCandidate *candidate,
					  TransactionId horizon);

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

	if (!lock_table_open_if_usable(&table, RowExclusiveLock))
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

	while (pages_owed > 0 && pages > 0)
	{
		pages_owed--;
		if (next_page >= pages)
			next_page = 0;
		purge_page(&table, next_page++, horizon, ROWS_PER_PAGE_AT_COMMIT,
				   GetCurrentTimestamp() - MIN_AGE_AT_COMMIT);
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
	lock_table_close(&table, true);
	PopActiveSnapshot();
	return page < pages ? page : InvalidBlockNumber;
}

static void
purge_page(LockTable *table, BlockNumber page, TransactionId horizon,
		   int max_rows, TimestampTz ended_before)
{
	List	   *candidates = lock_table_sweep_page(table, page, horizon,
												   ended_before);
	ListCell   *cell;
	int			rows = 0;

	foreach(cell, candidates)
	{
		if (rows >= max_rows)
			break;
		if (purge_row(table, lfirst(cell), horizon))
			rows++;
	}
}

/*
 * Free or delete a row, if it can be had and is still as the sweep saw it.
 */
static bool
purge_row(LockTable *table, const PurgeCandidate *candidate,
		  TransactionId horizon)
{
	LockKey		key;
	LockRow		row;
	TimestampTz now;
	bool		done = false;

	if (candidate->session_fence != 0 &&
		session_lock_is_held(candidate->session_fence))
		return false;
	key_from_stored(&key, candidate->key);
	if (!key_lock_try_quietly(&key, ExclusiveLock))
		return false;

	if (lock_table_find(table, &key, &row) &&
		lock_table_found_settled(table, horizon))
	{
		now = GetCurrentTimestamp();
		if (row.token == NULL)
			done = lock_table_delete_found(table);
		else if (!holder_is_live(&row, now))
		{
			done = lease_row_purge(table, &row, now);
		}
	}
	if (!done)
		key_lock_let_go(&key, ExclusiveLock);
	return done;
}
