/*-------------------------------------------------------------------------
 *
 * errors.h
 *	  Errors that more than one part of distlock raises.
 *
 * No message, detail or hint carries a token.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_ERRORS_H
#define DISTLOCK_ERRORS_H

#include "distlock.h"

/* SQLSTATE class LK is ours: the standard leaves I to Z to implementations. */
#define ERRCODE_LOCK_NOT_HELD		MAKE_SQLSTATE('L', 'K', '0', '0', '1')

/* A key cut to a length fit for a message; palloc'd. */
extern char *error_key(const LockKey *key);

/* LK001: the caller does not hold the lock. */
pg_noreturn extern void error_not_held(const LockKey *key);

/* 25006 or 25000: refuse to change a lock where nothing may be written. */
extern void error_unless_writable(const char *what);

/* 25006: a standby cannot pin anything. */
extern void error_if_in_recovery(const char *what);

/* 25000: the newest state cannot be seen in parallel mode. */
extern void error_if_parallel(const char *what);

#endif							/* DISTLOCK_ERRORS_H */
