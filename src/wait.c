/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  Waiting with a deadline.
 *
 * There are two ways to wait: in the lock manager, for a lock that another
 * transaction holds, and on the process's latch, for a committed lease to be
 * released or to expire.
 *
 * The lock manager knows one kind of deadline, lock_timeout, which raises an
 * error.  So the lock is awaited in a subtransaction of its own with LockTimeout
 * set for its length, and the error, when it was our deadline, is caught.
 * LockTimeout is set as a variable and not as a setting: nobody else looks at
 * it meanwhile, and no error can leave it changed.  So is DeadlockTimeout.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timeout.h"

#include "compat.h"
#include "fail_point.h"
#include "steady_clock.h"
#include "wait.h"

/*
 * The longest sleep on the latch.  Whoever frees a lock wakes the next at
 * once; this is for changes of which nobody tells (COMMIT PREPARED), for
 * deadlocks that only then enter the lock manager, and for clients that have
 * gone.
 */
#define LONGEST_SLEEP_MS 1000

static int	whole_ms(int64 microseconds, int max);
pg_noreturn static void error_lock_timeout(void);

void
wait_begin(WaitBudget *budget, int64 microseconds)
{
	int64		now = steady_now();

	budget->deadline = microseconds == WAIT_FOREVER ?
		WAIT_FOREVER : now + microseconds;
	budget->lock_timeout_at = LockTimeout > 0 ?
		now + LockTimeout * INT64CONST(1000) : WAIT_FOREVER;
	budget->deadlock_check = 0;
}

void
wait_slice(WaitBudget *slice, const WaitBudget *budget, int64 microseconds)
{
	slice->deadline = Min(budget->deadline, steady_now() + microseconds);
	slice->lock_timeout_at = budget->lock_timeout_at;
	slice->deadlock_check = 0;
}

void
wait_put_off_deadlock_check(WaitBudget *budget, int milliseconds)
{
	budget->deadlock_check = milliseconds;
}

bool
wait_is_over(const WaitBudget *budget)
{
	return steady_now() >= budget->deadline;
}

bool
wait_for_lock(const WaitBudget *budget, WaitLockFunction take, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	int64		remaining;
	int			saved_timeout = LockTimeout;
	int			saved_deadlock_timeout = DeadlockTimeout;
	bool		statement_timeout = get_timeout_active(STATEMENT_TIMEOUT);
	volatile bool taken = false;

	remaining = Min(budget->deadline, budget->lock_timeout_at) - steady_now();
	if (remaining <= 0)
	{
		if (budget->lock_timeout_at < budget->deadline)
			error_lock_timeout();
		return false;
	}

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		LockTimeout = whole_ms(remaining, PG_INT32_MAX);
		DeadlockTimeout = Max(DeadlockTimeout, budget->deadlock_check);
		FAIL_POINT("wait_begun");
		take(arg);
		FAIL_POINT("wait_lock_got");
		/* The time may have run out just when the lock was granted. */
		CHECK_FOR_INTERRUPTS();
		DeadlockTimeout = saved_deadlock_timeout;
		LockTimeout = saved_timeout;
		ReleaseCurrentSubTransaction();
		taken = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		DeadlockTimeout = saved_deadlock_timeout;
		LockTimeout = saved_timeout;
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;

		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE ||
			budget->lock_timeout_at <= steady_now())
			ReThrowError(error);
		FreeErrorData(error);

		/*
		 * When both have fired, PostgreSQL reports the first and forgets the
		 * other.
		 */
		if (statement_timeout && !get_timeout_active(STATEMENT_TIMEOUT))
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("canceling statement due to statement timeout")));
	}
	PG_END_TRY();

	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return taken;
}

void
wait_sleep(const WaitBudget *budget, int64 microseconds)
{
	int64		now = steady_now();
	int64		remaining = Min(budget->deadline, budget->lock_timeout_at) - now;

	if (now >= budget->lock_timeout_at)
		error_lock_timeout();

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 whole_ms(Min(microseconds, remaining), LONGEST_SLEEP_MS),
					 compat_wait_event_acquire());
	CHECK_FOR_INTERRUPTS();
}

void
wait_pause(const WaitBudget *budget, int64 microseconds)
{
	int64		end = steady_now() + microseconds;
	int64		now;

	while ((now = steady_now()) < end && now < budget->deadline)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		wait_sleep(budget, end - now);
	}
}

void
wait_check_client(void)
{
	if (MyProcPort == NULL || !WaitEventSetCanReportClosed())
		return;
	if (!pq_check_connection())
	{
		/* As PostgreSQL itself does for client_connection_check_interval. */
		ClientConnectionLost = true;
		InterruptPending = true;
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Rounded up, so that nobody wakes just before the time.
 */
static int
whole_ms(int64 microseconds, int max)
{
	if (microseconds <= 0)
		return 0;
	if (microseconds / 1000 >= max)
		return max;
	return (int) ((microseconds + 999) / 1000);
}

/*
 * The same error as PostgreSQL's own waits raise.
 */
static void
error_lock_timeout(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("canceling statement due to lock timeout")));
}
