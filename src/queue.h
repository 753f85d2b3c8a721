/*-------------------------------------------------------------------------
 *
 * queue.h
 *	  Who waits for which key, read from the lock manager.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_QUEUE_H
#define DISTLOCK_QUEUE_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

typedef struct QueuedWaiter
{
	uint64		key_hash;
	text	   *key;			/* NULL when it is in no row of the table */
	int			position;		/* 1: the head */
	int			pid;
	TimestampTz waiting_since;	/* 0 when not known */
	TimestampTz wait_until;		/* 0 when not known */
} QueuedWaiter;

/*
 * All transactions of this database that hold a key with scope "transaction";
 * of the members only key and pid are set.
 */
extern List *queue_read_holders(void);

/* All waiters (QueuedWaiter *) of this database, by key and position. */
extern List *queue_read(void);

#endif							/* DISTLOCK_QUEUE_H */
