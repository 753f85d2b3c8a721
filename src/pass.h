/*-------------------------------------------------------------------------
 *
 * pass.h
 *	  What a worker does: end what has lapsed, announce it, purge.
 *
 * A pass is done in steps, each a transaction of a few milliseconds.  Only for
 * the worker of a database, outside of transactions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_PASS_H
#define DISTLOCK_PASS_H

#include "lock_table.h"
#include "shared.h"

typedef enum StepResult
{
	STEP_MORE,					/* there is more to do at once */
	STEP_DONE,					/* until schedule_wake_at() */
	STEP_TABLE_BUSY,			/* its definition is being changed */
	STEP_TABLE_UNFIT,
	STEP_NO_EXTENSION
} StepResult;

/* Begin to work for the slot's database. */
extern void pass_begin(DatabaseSlot *slot);

/* Is a pass under way?  Its next step is due at once. */
extern bool pass_is_under_way(void);

/*
 * Do a step.  An error ends the transaction; call pass_failed() then, which
 * leaves the pages alone on which it happened for a while.
 */
extern StepResult pass_step(void);
extern void pass_failed(void);

#endif							/* DISTLOCK_PASS_H */
