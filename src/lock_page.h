/*-------------------------------------------------------------------------
 *
 * lock_page.h
 *	  The table of locks, read page by page.
 *
 * For those who look after all locks, and not for a key: purge, worker, mirror.
 * The visitors are called while the page is locked: they have to be quick, and
 * must not look at other pages.  A row's texts are good for the call only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_LOCK_PAGE_H
#define DISTLOCK_LOCK_PAGE_H

#include "lock_table.h"

/*
 * Pending: a transaction that has not ended wrote this version or is changing
 * it.  Settled: every snapshot can see it.
 */
typedef void (*LockRowVisitor) (const LockRow *row, bool pending, bool settled,
								void *arg);

/* Visit each row version that is or may become the newest of its row. */
extern void lock_page_visit(LockTable *table, BlockNumber page,
							TransactionId horizon, LockRowVisitor visit,
							void *arg);

typedef void (*LockRowReader) (const LockRow *row, void *arg);

/*
 * Read each row version that the snapshot (of MVCC) sees.  True when there are
 * versions whose writers had not ended when the snapshot was taken.  "Prepared"
 * becomes the oldest of those that belong to no session, being prepared or having
 * just ended, unless it is older still.
 */
extern bool lock_page_read(LockTable *table, BlockNumber page,
						   Snapshot snapshot, LockRowReader read, void *arg,
						   TransactionId *prepared);

#endif							/* DISTLOCK_LOCK_PAGE_H */
