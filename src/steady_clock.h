/*-------------------------------------------------------------------------
 *
 * steady_clock.h
 *	  A clock that nobody sets, for waiting and deadlines.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_STEADY_CLOCK_H
#define DISTLOCK_STEADY_CLOCK_H

#include "portability/instr_time.h"

/* In microseconds, from a moment that means nothing. */
static inline int64
steady_now(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

#endif							/* DISTLOCK_STEADY_CLOCK_H */
