/*-------------------------------------------------------------------------
 *
 * retry.c
 *	  Retry strategies: when to try again, for callers who must not queue.
 *
 * The schedules are those of the redislock client for Go, so that programs
 * which come from there find the same times.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "retry.h"

/* 2^(n+1) ms exceed the longest delay, 24 h, from this n on. */
#define LAST_DOUBLING 26

bool
retry_delay(const RetryStrategy *strategy, int64 n, int64 *delay)
{
	int64		doubled;

	if (strategy->max_retries >= 0 && n > strategy->max_retries)
		return false;

	doubled = (INT64CONST(1) << (Min(n, LAST_DOUBLING) + 1)) * 1000;
	*delay = Min(Max(doubled, strategy->min_delay), strategy->max_delay);
	return true;
}
