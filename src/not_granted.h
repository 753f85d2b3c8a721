/*-------------------------------------------------------------------------
 *
 * not_granted.h
 *	  The error of an acquisition that was refused.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_NOT_GRANTED_H
#define DISTLOCK_NOT_GRANTED_H

#include "lease.h"

/* 55P03, saying who holds the lock and for how long. */
pg_noreturn extern void error_not_granted(const LockKey *key,
										  const Refusal *refusal);

#endif							/* DISTLOCK_NOT_GRANTED_H */
