/*-------------------------------------------------------------------------
 *
 * purge.h
 *	  Getting rid of rows that nobody needs any more.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_PURGE_H
#define DISTLOCK_PURGE_H

#include "storage/block.h"

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

#endif							/* DISTLOCK_PURGE_H */
