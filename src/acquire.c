/*-------------------------------------------------------------------------
 *
 * acquire.c
 *	  The rules of leases: who gets a lock, and how one waits for it.
 *
 * A newcomer looks, passes by the queue, and asks for the key lock without
 * waiting.  If that does not give it the lock, and it may wait, it joins the
 * queue of the key: a lock of its own, so that the lock manager keeps the
 * order.  Only the head of the queue waits for the lock itself:
 *
 * - While the row shows a lease that nobody is changing, the head sleeps on
 *	 its latch, until the lease's end or until it is woken (wake.c).  It does not
 *	 ask for the key lock, so that it is not in the way of the holder's extends.
 * - Otherwise, the lock being free or in the hands of a transaction that has not
 *	 ended, it asks for the key lock and waits in the lock manager, where
 *	 deadlocks are found.
 *
 * Why a newcomer does not overtake the queue: it holds the queue lock (Share)
 * while it asks for the key lock, and does not get it when anybody waits in
 * the queue or stands at its head (Exclusive).
 *
 * Why nobody waits for itself: who holds the key lock already, from an earlier
 * call in the same transaction, does not queue.  If the row is another's, it
 * is refused at once: nobody else can change that while it holds the lock.
 *
 * Who is granted the lock at the head of the queue leaves it at once or, if its
 * transaction ends with the statement, at the commit (commits_soon()).
 *
 * Why a live holder does not queue: its token is a right to the lock now; to
 * wait behind those who wait for it to go would be a deadlock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "deadlock.h"
#include "duration.h"
#include "errors.h"
#include "fail_point.h"
#include "hold.h"
#include "holder.h"
#include "key_lock.h"
#include "lease.h"
#include "lease_row.h"
#include "lock_table.h"
#include "look.h"
#include "purge.h"
#include "session_lock.h"
#include "stats.h"
#include "text_bytes.h"
#include "token.h"
#include "wait.h"

/*
 * How long a call that must not wait puts up with somebody who has the key
 * locked but shows no lock held: a late release, a purge, a grant about to be
 * written are gone in less, and refusing because of them would mean that a
 * lock that nobody holds is not granted to anybody.
 */
#define PASSING_BY (20 * USECS_PER_SEC / 1000)

/* Between two looks, when the row is changed by others than us. */
#define PAUSE (5 * USECS_PER_SEC / 1000)

/*
 * How long to wait for a session to end before looking at the row again: longer
 * than it takes the lock manager to look for a deadlock.
 */
#define SESSION_SLICE ((DeadlockTimeout + 250) * INT64CONST(1000))

/* What came of asking for one's own lock again. */
typedef enum RenewResult
{
	RENEW_DONE,
	RENEW_REFUSED,				/* another transaction has the key locked */
	RENEW_LOST					/* it is no longer held with this token */
} RenewResult;

/* For wait_for_lock(). */
typedef struct KeyLockWait
{
	const LockKey *key;
	LOCKMODE	mode;
} KeyLockWait;

static bool acquire(const AcquireRequest *request, Grant *grant,
					Refusal *refusal);
static bool acquire_now(const AcquireRequest *request, Grant *grant,
						Refusal *refusal);
static bool acquire_by_retrying(const AcquireRequest *request, Grant *grant,
								Refusal *refusal);
static bool acquire_by_queueing(const AcquireRequest *request, Grant *grant,
								Refusal *refusal);
static bool commits_soon(const AcquireRequest *request);
static bool acquire_as_head(const AcquireRequest *request,
							const WaitBudget *budget, Grant *grant,
							Refusal *refusal);
static bool take_turn_as_head(const AcquireRequest *request,
							  const WaitBudget *budget, Grant *grant,
							  Refusal *refusal, bool *granted);
static bool wait_for_holder(const WaitBudget *budget, LockRow *row,
							TimestampTz now, Refusal *refusal);
static void wait_for_session(void *arg);
static bool acquire_holding_key_lock(const AcquireRequest *request,
									 Grant *grant, Refusal *refusal);
static bool take(LockTable *table, const AcquireRequest *request,
				 Grant *grant, Refusal *refusal);
static void grant_hold(LockTable *table, const AcquireRequest *request,
					   const LockRow *row, Grant *grant);
static LOCKMODE grant_mode(const AcquireRequest *request);
static RenewResult renew(const AcquireRequest *request,
						 const WaitBudget *budget, Grant *grant,
						 Refusal *refusal);
static void refuse_held(const LockRow *row, TimestampTz now, Refusal *refusal);
static void refuse_by_look(const LockKey *key, const LockLook *look,
						   TimestampTz now, Refusal *refusal);
static void refuse_changing(const LockKey *key, Refusal *refusal);
static void lock_key(void *arg);
static void lock_queue(void *arg);

bool
lease_acquire(const AcquireRequest *request, Grant *grant, Refusal *refusal)
{
	bool		granted;

	error_unless_writable("an acquisition of a lock");

	/* Find out whether the ttl is possible before anything else happens. */
	(void) duration_end(GetCurrentStatementStartTimestamp(), request->ttl);

	FAIL_POINT("acquire_begin");
	granted = acquire(request, grant, refusal);
	if (!granted)
		stats_refused(request->key.hash);
	return granted;
}

static bool
acquire(const AcquireRequest *request, Grant *grant, Refusal *refusal)
{
	TimestampTz since;
	bool		granted;

	if (key_lock_held(&request->key))
		return acquire_holding_key_lock(request, grant, refusal);
	if (request->retry == NULL)
	{
		if (acquire_now(request, grant, refusal))
			return true;
		if (request->wait == 0 || refusal->reason == REFUSED_OWN_SESSION)
			return false;
	}

	since = GetCurrentTimestamp();
	granted = request->retry != NULL ?
		acquire_by_retrying(request, grant, refusal) :
		acquire_by_queueing(request, grant, refusal);
	stats_waited(request->key.hash, GetCurrentTimestamp() - since);
	return granted;
}

/*
 * One attempt of a newcomer.  It does not wait, but for those passing by.
 */
static bool
acquire_now(const AcquireRequest *request, Grant *grant, Refusal *refusal)
{
	const LockKey *key = &request->key;
	WaitBudget	patience;
	long		pause = 50;		/* microseconds */
	bool		first = true;

	for (;;)
	{
		LockTable	table;
		LockLook	look;
		const LockRow *holder;
		TimestampTz now;
		bool		own;
		bool		passed;
		bool		locked;

		/* The table stays open for take(), but not while waiting. */
		lock_table_open(&table, RowExclusiveLock);
		lock_table_look(&table, key, &look);
		now = GetCurrentTimestamp();
		own = look_is_own(request, &look, now);
		holder = own ? NULL : look_holder(&look, now);
		if (own || holder != NULL)
			lock_table_close(&table, false);
		if (own)
		{
			RenewResult result;

			/* It may have to wait for an extend, but not in the queue. */
			wait_begin(&patience, request->retry == NULL ?
					   Max(request->wait, PASSING_BY) : PASSING_BY);
			result = renew(request, &patience, grant, refusal);
			if (result != RENEW_LOST)
				return result == RENEW_DONE;
			continue;
		}
		if (holder != NULL)
		{
			refuse_held(holder, now, refusal);
			return false;
		}

		passed = queue_lock_pass(key);
		FAIL_POINT("acquire_passing_queue");
		locked = passed && key_lock_try(key, grant_mode(request));
		if (passed)
			queue_lock_passed(key);
		if (locked)
		{
			if (take(&table, request, grant, refusal))
				return true;
			key_lock_let_go(key, grant_mode(request));
			return false;
		}
		lock_table_close(&table, false);
		if (!passed)
		{
			refusal->reason = REFUSED_QUEUE;
			return false;
		}

		/*
		 * Somebody has the key locked, but there is no lock to be seen.  Who
		 * may wait does so in the queue.
		 */
		if (key_lock_is_hold(key) ||
			(request->wait > 0 && request->retry == NULL))
		{
			refuse_changing(key, refusal);
			return false;
		}
		if (first)
			wait_begin(&patience, PASSING_BY);
		else if (wait_is_over(&patience))
		{
			refuse_changing(key, refusal);
			return false;
		}
		first = false;
		pg_usleep(pause);
		pause = Min(2 * pause, 2000);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Attempts at the times of the strategy, without queueing.
 */
static bool
acquire_by_retrying(const AcquireRequest *request, Grant *grant,
					Refusal *refusal)
{
	MemoryContext attempt;
	MemoryContext caller;
	WaitBudget	budget;
	bool		granted;

	/*
	 * There can be very many attempts.  What the last one leaves is the
	 * result.
	 */
	attempt = AllocSetContextCreate(CurrentMemoryContext, "distlock attempt",
									ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(attempt);

	/* Without a wait, only the strategy limits it. */
	wait_begin(&budget, request->wait > 0 ? request->wait : WAIT_FOREVER);
	for (int64 n = 1;; n++)
	{
		int64		delay;

		granted = acquire_now(request, grant, refusal);
		if (granted || refusal->reason == REFUSED_OWN_SESSION ||
			!retry_delay(request->retry, n, &delay) ||
			wait_is_over(&budget))
			break;
		MemoryContextReset(attempt);
		wait_pause(&budget, delay);
		wait_check_client();
	}
	MemoryContextSwitchTo(caller);
	return granted;
}

static bool
acquire_by_queueing(const AcquireRequest *request, Grant *grant,
					Refusal *refusal)
{
	const LockKey *key = &request->key;
	TimestampTz since = GetCurrentTimestamp();
	TimestampTz until = since + request->wait;
	WaitBudget	budget;
	WaitBudget	in_queue;
	LockLook	look;
	bool		granted = false;

	wait_begin(&budget, request->wait);
	in_queue = budget;
	wait_put_off_deadlock_check(&in_queue, deadlock_search_delay());
	queue_note_put(since, until);
	FAIL_POINT("queue_noted");
	if (queue_lock_try(key) ||
		wait_for_lock(&in_queue, lock_queue, unconstify(LockKey *, key)))
	{
		FAIL_POINT("queue_got_head");
		granted = acquire_as_head(request, &budget, grant, refusal);
		FAIL_POINT("queue_leaving");
		if (!granted || !commits_soon(request))
			queue_lock_let_go(key);
	}
	else
	{
		FAIL_POINT("queue_timed_out");
		/* The lock may have changed hands since the first look. */
		look_at(key, &look);
		refuse_by_look(key, &look, GetCurrentTimestamp(), refusal);
	}
	queue_note_remove(since, until);
	FAIL_POINT("queue_left");
	return granted;
}

/*
 * Is the grant all there is to the transaction, as far as can be seen, so that it
 * is committed with the statement?  Then the next in line comes to the head of the
 * queue with the locks of this transaction.  Any earlier, and it would wake only to
 * wait for the commit, and take the processor from it.  (A statement that goes on,
 * or a pipeline, keeps the queue along with the key; that does no harm.)
 */
static bool
commits_soon(const AcquireRequest *request)
{
	return request->scope != SCOPE_TRANSACTION && !IsTransactionBlock() &&
		key_lock_count() == 1;
}

static bool
acquire_as_head(const AcquireRequest *request, const WaitBudget *budget,
				Grant *grant, Refusal *refusal)
{
	MemoryContext turn;
	MemoryContext caller;
	bool		granted = false;

	/* There can be very many turns; what the last one leaves is the result. */
	turn = AllocSetContextCreate(CurrentMemoryContext, "distlock wait",
								 ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(turn);
	while (take_turn_as_head(request, budget, grant, refusal, &granted))
		MemoryContextReset(turn);
	MemoryContextSwitchTo(caller);
	return granted;
}

/*
 * Look and act once.  True: look again.  False: it is decided.
 */
static bool
take_turn_as_head(const AcquireRequest *request, const WaitBudget *budget,
				  Grant *grant, Refusal *refusal, bool *granted)
{
	const LockKey *key = &request->key;
	KeyLockWait wait = {key, grant_mode(request)};
	LockTable	table;
	LockLook	look;
	TimestampTz now;
	bool		over;

	/* The latch first: what happens after the look sets it again. */
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	wait_check_client();
	over = wait_is_over(budget);
	look_at(key, &look);
	now = GetCurrentTimestamp();
	FAIL_POINT("queue_head_looked");

	if (look_is_own(request, &look, now))
	{
		RenewResult result = renew(request, budget, grant, refusal);

		*granted = (result == RENEW_DONE);
		return result == RENEW_LOST;
	}

	if (look_is_settled(&look, now))
	{
		if (over)
		{
			refuse_held(&look.row, now, refusal);
			return false;
		}
		return wait_for_holder(budget, &look.row, now, refusal);
	}

	/* A last try even when the time is up: it may just have got free. */
	if (!key_lock_try(key, wait.mode))
	{
		if (!wait_for_lock(budget, lock_key, &wait))
		{
			refuse_by_look(key, &look, now, refusal);
			return false;
		}
		wait_check_client();
	}
	lock_table_open(&table, RowExclusiveLock);
	*granted = take(&table, request, grant, refusal);
	if (*granted)
		return false;
	key_lock_let_go(key, wait.mode);

	/* Who is changing the row does not hold the key lock: no code of ours. */
	if (!over)
		wait_sleep(budget, PAUSE);
	return !over;
}

/*
 * Wait for a holder that nobody is changing to end.  False if that will never
 * be, because the holder is this session.
 */
static bool
wait_for_holder(const WaitBudget *budget, LockRow *row, TimestampTz now,
				Refusal *refusal)
{
	TimestampTz end = holder_end(row);
	WaitBudget	slice;

	/* It may have ended since the look. */
	if (end <= now)
		return true;
	if (end != DT_NOEND)
	{
		FAIL_POINT("queue_head_asleep");
		wait_sleep(budget, end - now);
		FAIL_POINT("queue_head_woken");
		return true;
	}
	if (session_lock_is_own(row->fence))
	{
		refuse_held(row, now, refusal);
		return false;
	}

	/* In slices, because a lock that is forced goes on under another tag. */
	FAIL_POINT("queue_head_awaits_session");
	wait_slice(&slice, budget, SESSION_SLICE);
	(void) wait_for_lock(&slice, wait_for_session, row);
	return true;
}

/*
 * An earlier call of this transaction has locked the key, for a row that it
 * released, extended or acquired, or for another key with the same hash.
 */
static bool
acquire_holding_key_lock(const AcquireRequest *request, Grant *grant,
						 Refusal *refusal)
{
	const LockKey *key = &request->key;
	KeyLockWait wait = {key, grant_mode(request)};
	WaitBudget	patience;
	LockTable	table;
	LockLook	look;
	const LockRow *holder;
	TimestampTz now;
	Hold	   *hold = hold_find_lock(key, NULL);

	if (hold != NULL)
	{
		if (request->scope != SCOPE_TRANSACTION || request->token == NULL ||
			!token_equal(hold->token, request->token))
		{
			refusal->reason = REFUSED_OWN;
			return false;
		}
		grant->token = request->token;
		grant->fence = request->want_fence ? hold_fence(hold) : hold->fence;
		return true;
	}

	lock_table_open(&table, RowExclusiveLock);
	lock_table_look(&table, key, &look);
	now = GetCurrentTimestamp();
	holder = look_holder(&look, now);
	if (holder != NULL && !look_is_own(request, &look, now))
	{
		lock_table_close(&table, false);
		refuse_held(holder, now, refusal);
		return false;
	}

	/*
	 * Asking without waiting, for another mode than the one held, is refused
	 * when others wait for the key lock; asking in earnest goes before them.
	 */
	if (!key_lock_try(key, wait.mode))
	{
		lock_table_close(&table, false);
		wait_begin(&patience, PASSING_BY);
		if (!wait_for_lock(&patience, lock_key, &wait))
		{
			refuse_changing(key, refusal);
			return false;
		}
		lock_table_open(&table, RowExclusiveLock);
	}
	if (take(&table, request, grant, refusal))
		return true;
	key_lock_let_go(key, wait.mode);
	return false;
}

/*
 * Grant or refuse, and close the table; the caller holds the key lock in the mode
 * for a grant.
 */
static bool
take(LockTable *table, const AcquireRequest *request, Grant *grant,
	 Refusal *refusal)
{
	LockRow		row;
	TimestampTz now;
	bool		found;
	bool		granted = true;

	FAIL_POINT("acquire_after_key_lock");
	found = lock_table_find(table, &request->key, &row);
	FAIL_POINT("acquire_after_reread");
	now = GetCurrentTimestamp();
	FAIL_POINT("acquire_after_clock");

	if (!found || !holder_is_live(&row, now))
	{
		if (request->scope == SCOPE_TRANSACTION)
			grant_hold(table, request, found ? &row : NULL, grant);
		else
		{
			lease_row_grant(table, request, found ? &row : NULL, now, grant);
			if (!found)
				purge_owe_one();
		}
	}
	else if (request->scope == row.scope &&
			 request->token != NULL && token_equal(row.token, request->token))
		lease_row_renew(table, request, &row, now, grant);
	else
	{
		refuse_held(&row, now, refusal);
		granted = false;
	}
	lock_table_close(table, granted);
	return granted;
}

/*
 * Grant a lock of scope "transaction": the key lock is all there is to it.
 */
static void
grant_hold(LockTable *table, const AcquireRequest *request,
		   const LockRow *row, Grant *grant)
{
	Hold	   *hold;

	if (row != NULL)
		lease_row_check_snapshot(table, &request->key, row);
	grant->token = request->token ? request->token : token_generate();
	hold = hold_add(HOLD_LOCK, &request->key, grant->token, request->ttl, 0);
	FAIL_POINT("acquire_after_hold");
	grant->fence = request->want_fence ? hold_fence(hold) : 0;
}

/*
 * The mode of the key lock for a grant.
 */
static LOCKMODE
grant_mode(const AcquireRequest *request)
{
	return request->scope == SCOPE_TRANSACTION ?
		AccessExclusiveLock : ExclusiveLock;
}

/*
 * The look has shown a live lock with the request's own token: start its ttl
 * anew.  This takes the key lock in the mode of an extend.
 */
static RenewResult
renew(const AcquireRequest *request, const WaitBudget *budget, Grant *grant,
	  Refusal *refusal)
{
	const LockKey *key = &request->key;
	KeyLockWait wait = {key, ShareUpdateExclusiveLock};
	LockTable	table;
	LockRow		row;
	TimestampTz now;

	if (!key_lock_try(key, ShareUpdateExclusiveLock) &&
		!wait_for_lock(budget, lock_key, &wait))
	{
		refuse_changing(key, refusal);
		return RENEW_REFUSED;
	}
	FAIL_POINT("renew_after_key_lock");

	lock_table_open(&table, RowExclusiveLock);
	if (lock_table_find(&table, key, &row))
	{
		now = GetCurrentTimestamp();
		if (holder_is_live(&row, now) &&
			token_equal(row.token, request->token))
		{
			lease_row_renew(&table, request, &row, now, grant);
			lock_table_close(&table, true);
			return RENEW_DONE;
		}
	}
	lock_table_close(&table, false);
	key_lock_let_go(key, ShareUpdateExclusiveLock);
	return RENEW_LOST;
}

static void
refuse_held(const LockRow *row, TimestampTz now, Refusal *refusal)
{
	TimestampTz end;

	refusal->reason = row->scope == SCOPE_SESSION &&
		session_lock_is_own(row->fence) ? REFUSED_OWN_SESSION : REFUSED_HELD;
	/* The row may be in a buffer that is about to be let go of. */
	refusal->owner = text_copy(row->owner);
	refusal->pid = row->pid;
	end = holder_end(row);
	refusal->remaining = end == DT_NOEND ? -1 : end <= now ? 0 : end - now;
}

static void
refuse_by_look(const LockKey *key, const LockLook *look, TimestampTz now,
			   Refusal *refusal)
{
	const LockRow *holder = look_holder(look, now);

	if (holder != NULL)
		refuse_held(holder, now, refusal);
	else
		refuse_changing(key, refusal);
}

static void
refuse_changing(const LockKey *key, Refusal *refusal)
{
	refusal->reason = key_lock_is_hold(key) ?
		REFUSED_TRANSACTION : REFUSED_CHANGING;
	refusal->pid = key_lock_blocker(key, ExclusiveLock);
}

static void
lock_key(void *arg)
{
	KeyLockWait *wait = arg;

	key_lock_wait(wait->key, wait->mode);
}

static void
wait_for_session(void *row)
{
	session_lock_wait(((LockRow *) row)->fence);
}

static void
lock_queue(void *key)
{
	queue_lock_wait(key);
}
