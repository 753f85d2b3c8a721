/*-------------------------------------------------------------------------
 *
 * retry.h
 *	  Retry strategies: when to try again, for callers who must not queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_RETRY_H
#define DISTLOCK_RETRY_H

/*
 * The delay before the n-th retry, n = 1, 2, ..., is 2^(n+1) ms, but not less
 * than min_delay nor more than max_delay.  With both the same it is constant.
 */
typedef struct RetryStrategy
{
	int64		min_delay;		/* microseconds */
	int64		max_delay;		/* microseconds */
	int32		max_retries;	/* -1: no limit */
} RetryStrategy;

/*
 * The delay before the n-th retry in microseconds; false when there is none.
 */
extern bool retry_delay(const RetryStrategy *strategy, int64 n, int64 *delay);

#endif							/* DISTLOCK_RETRY_H */
