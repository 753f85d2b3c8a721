/*-------------------------------------------------------------------------
 *
 * purge.h
 *	  Getting rid of rows that nobody needs any more.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_PURGE_H
#define DISTLOCK_PURGE_H

#include "lock_table.h"

typedef enum PurgeResult
{
	PURGE_NOTHING,				/* the row has to stay as it is */
	PURGE_NOT_NOW,				/* somebody else is at it, or needs it */
	PURGE_FREED,				/* it had lapsed, and is free now */
	PURGE_DELETED				/* it was free */
} PurgeResult;

/* This transaction has added a row, and will look for others to remove. */
extern void purge_owe_one(void);

/* Pay what is owed; call before the commit, when the work is done. */
extern void purge_at_pre_commit(void);
extern void purge_at_xact_end(void);

/*
 * Purge some pages from the given one on, in the current transaction.  Returns
 * the next page, or InvalidBlockNumber at the table's end.
 */
extern BlockNumber purge_step(BlockNumber page);

/*
 * Free a row whose holder is gone, or delete one that is free and that every
 * snapshot sees so.  Never waits.
 */
extern PurgeResult purge_row(LockTable *table, text *key,
							 TransactionId horizon);

#endif							/* DISTLOCK_PURGE_H */
