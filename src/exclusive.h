/*-------------------------------------------------------------------------
 *
 * exclusive.h
 *	  Work that runs under a lock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_EXCLUSIVE_H
#define DISTLOCK_EXCLUSIVE_H

#include "lease.h"

/*
 * Run a command (one or several statements) in the caller's transaction under
 * the lock of scope "transaction" that is asked for.  False: not granted,
 * nothing was run.  *rows is the sum of the rows that the statements processed.
 * The command's errors arrive as they are.
 */
extern bool exclusive_do(const AcquireRequest *request, const char *command,
						 uint64 *rows, Refusal *refusal);

/*
 * Run a command in transactions of its own under a lock of scope "session",
 * which is committed before and released after, whatever happens.  The command
 * may commit as often as it likes.  Call from a procedure that may commit;
 * false: not granted, nothing was run.  Raises LK001 when the lock was lost
 * (forced) while the command ran.
 */
extern bool exclusive_run(AcquireRequest *request, const char *command,
						  Refusal *refusal);

/* The fence of the lock that the running command is under; 0 without one. */
extern int64 exclusive_current_fence(void);

#endif							/* DISTLOCK_EXCLUSIVE_H */
