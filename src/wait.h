/*-------------------------------------------------------------------------
 *
 * wait.h
 *	  Waiting with a deadline.
 *
 * A wait that reaches its own deadline says so and raises nothing.  Cancel,
 * terminate, statement_timeout and lock_timeout end it with the errors that
 * they always raise; lock_timeout bounds the whole of a wait, in however many
 * pieces it is waited.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_WAIT_H
#define DISTLOCK_WAIT_H

/*
 * Times are microseconds of a clock that nobody can set: a wait takes as long
 * as was asked for when the server's clock is put back.
 */
typedef struct WaitBudget
{
	int64		deadline;		/* of the caller's wait argument */
	int64		lock_timeout_at;	/* of lock_timeout; WAIT_FOREVER without */
	int			deadlock_check; /* milliseconds; 0 for deadlock_timeout */
} WaitBudget;

#define WAIT_FOREVER PG_INT64_MAX

/* Begin to wait, for at most so many microseconds, or WAIT_FOREVER. */
extern void wait_begin(WaitBudget *budget, int64 microseconds);

/* A part of the same wait, of at most so many microseconds. */
extern void wait_slice(WaitBudget *slice, const WaitBudget *budget,
					   int64 microseconds);

/*
 * Look for deadlocks only after that many milliseconds in the lock manager, if
 * that is longer than deadlock_timeout.
 */
extern void wait_put_off_deadlock_check(WaitBudget *budget, int milliseconds);

extern bool wait_is_over(const WaitBudget *budget);

/*
 * Take a lock by this function, waiting in the lock manager (where deadlocks
 * are found) until the deadline; false then, and nothing is left of it.
 */
typedef void (*WaitLockFunction) (void *arg);
extern bool wait_for_lock(const WaitBudget *budget, WaitLockFunction take,
						  void *arg);

/*
 * Sleep until the latch is set, so many microseconds have passed, the deadline
 * has come, or for a while.  Reset the latch and look at what is waited for
 * before.
 */
extern void wait_sleep(const WaitBudget *budget, int64 microseconds);

/* Sleep so many microseconds, or until the deadline; wake-ups do not count. */
extern void wait_pause(const WaitBudget *budget, int64 microseconds);

/* End the session if its client has gone: nobody would use the lock. */
extern void wait_check_client(void);

#endif							/* DISTLOCK_WAIT_H */
