/*-------------------------------------------------------------------------
 *
 * grant.h
 *	  What is asked for, and what is granted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_GRANT_H
#define DISTLOCK_GRANT_H

#include "distlock.h"
#include "retry.h"

typedef struct AcquireRequest
{
	LockKey		key;
	text	   *token;			/* NULL: make one */
	LockScope	scope;
	bool		want_fence;		/* of scope "transaction": draw one now */
	bool		commits_first;	/* the work begins in another transaction,
								 * with a snapshot of its own */
	int64		ttl;			/* microseconds */
	int64		wait;			/* microseconds */
	text	   *owner;			/* may be NULL */
	text	   *data;			/* may be NULL */
	const RetryStrategy *retry; /* NULL: wait in the queue */
} AcquireRequest;

typedef struct Grant
{
	text	   *token;
	int64		fence;			/* 0: not drawn, see want_fence */
} Grant;

#endif							/* DISTLOCK_GRANT_H */
