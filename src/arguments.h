/*-------------------------------------------------------------------------
 *
 * arguments.h
 *	  Reading and checking the arguments of SQL functions.
 *
 * No function of distlock is STRICT: a NULL where none is allowed is an error
 * (22004) and not a NULL result that could be taken for "not granted".
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_ARGUMENTS_H
#define DISTLOCK_ARGUMENTS_H

#include "distlock.h"
#include "fmgr.h"
#include "retry.h"

/* Raise 22004 when the argument is NULL. */
extern void argument_check_not_null(FunctionCallInfo fcinfo, int number,
									const char *name);

extern void argument_key(FunctionCallInfo fcinfo, int number, LockKey *key);
extern text *argument_token(FunctionCallInfo fcinfo, int number);
extern int64 argument_ttl(FunctionCallInfo fcinfo, int number);
extern int64 argument_wait(FunctionCallInfo fcinfo, int number);
extern LockScope argument_scope(FunctionCallInfo fcinfo, int number);

/* NULL when the argument is NULL. */
extern text *argument_text(FunctionCallInfo fcinfo, int number,
						   const char *name, int max_bytes);
extern RetryStrategy *argument_retry(FunctionCallInfo fcinfo, int number);

/*
 * Of a procedure that commits: raise 2D000 when it is called inside a
 * transaction block, or by a function.
 */
extern void argument_check_may_commit(FunctionCallInfo fcinfo,
									  const char *name);

#endif							/* DISTLOCK_ARGUMENTS_H */
