/*-------------------------------------------------------------------------
 *
 * pass.c
 *	  What a worker does: end what has lapsed, announce it, purge.
 *
 * A pass goes over the pages that the schedule says are due.  On each it ends
 * leases that have lapsed, and locks whose session is gone, by making their rows
 * free; the notification is part of the same transaction, so that it comes once,
 * and not before the row says so.  Free rows that have not been used again for
 * a while are deleted when every snapshot sees them free (purge.c).
 *
 * Rows are judged twice: when the page is read, without the key lock, and again
 * with it, by the newest version and the clock read then.  What cannot be had
 * at once (others have the key locked, or wait for it and will take it over) is
 * looked at again a moment later.
 *
 * What a step holds while it runs: the key locks of the rows it has changed, at
 * most so many; these keep a lock that has just lapsed from being granted to
 * others for the length of a step, which is therefore limited in time as well.
 * No lock is waited for with these held.
 * Its commit does not wait for the disk: if it is lost in a crash, the row has
 * lapsed still.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "events.h"
#include "fail_point.h"
#include "holder.h"
#include "key.h"
#include "lock_page.h"
#include "pass.h"
#include "purge.h"
#include "schedule.h"
#include "settings.h"
#include "stats.h"
#include "text_bytes.h"

/* A step ends after the page on which it has come to either. */
#define ROWS_PER_STEP 100
#define STEP_TIME_US 2000

/*
 * When what could not be had is tried again.  A lease can be pinned long past
 * its end: the longer it is, the longer the next try can wait, by this part of
 * it.
 */
#define RETRY_LAPSED (50 * USECS_PER_SEC / 1000)
#define RETRY_LAPSED_LONGEST (10 * USECS_PER_SEC)
#define RETRY_LAPSED_PART 8
#define RETRY_SESSION USECS_PER_SEC
#define RETRY_PURGE (10 * USECS_PER_SEC)
#define RETRY_BUSY (100 * USECS_PER_SEC / 1000)
#define RETRY_UNFIT (5 * USECS_PER_SEC)
#define RETRY_FAILED (60 * USECS_PER_SEC)

/* More than this at a time are not given. */
#define MAX_PENDING_WARNINGS 64

/* Look at everything that often, whatever the schedule says: a safety net. */
#define FULL_ROUND (10 * SECS_PER_MINUTE * USECS_PER_SEC)

typedef enum CandidateKind
{
	CANDIDATE_LAPSED,
	CANDIDATE_SESSION,			/* which may have ended */
	CANDIDATE_FREE,
	CANDIDATE_WARNING
} CandidateKind;

typedef struct Candidate
{
	CandidateKind kind;
	LockRow		row;			/* key and, for a warning, owner are copies */
} Candidate;

/* A look at a group of pages. */
typedef struct Look
{
	int			group;
	TimestampTz now;
	TimestampTz looked_at;		/* the time before */
	TimestampTz due;			/* what is found out: when to look again */
	bool		has_sessions;
	bool		has_losses;		/* among the candidates: to be announced */
	List	   *candidates;
} Look;

/*
 * A warning that was due while a transaction was at the row: whether it is to be
 * given is known when that has ended.
 */
typedef struct PendingWarning
{
	uint64		key_hash;
	TimestampTz expires_at;
} PendingWarning;

static DatabaseSlot *slot;
static MemoryContext step_context;	/* what is found out outlasts the
									 * transaction */
static bool in_pass = false;
static bool collected = false;
static Oid	storage = InvalidOid;	/* the table's file that was looked at */
static TimestampTz full_round_at;
static TimestampTz pass_began;
static int64 pass_time;			/* microseconds spent in the steps */
static instr_time step_began;	/* without waiting for NOTIFY's lock */

static PendingWarning pending_warnings[MAX_PENDING_WARNINGS];

/* Where a step is; failing_group is the one it works on. */
static int	next_group = 0;
static int	failing_group = -1;

static StepResult work(LockTable *table, List **looks);
static bool step_is_long_enough(int rows);
static StepResult give_up(StepResult result, int64 retry);
static Look *look_at_group(LockTable *table, int group,
						   TransactionId horizon);
static void look_at_row(const LockRow *row, bool pending, bool settled,
						void *arg);
static void look_at_lease(Look *look, const LockRow *row, bool pending);
static void add_pending_warning(const Look *look, const LockRow *row);
static bool take_pending_warning(const LockRow *row);
static bool prepare_to_announce(int rows);
static TimestampTz retry_lapsed(const Look *look, const LockRow *row);
static void add_candidate(Look *look, CandidateKind kind, const LockRow *row);
static int	treat(LockTable *table, Look *look, Candidate *candidate,
				  TransactionId horizon);
static bool session_is_over(Look *look, const LockRow *row);
static int64 step_time(void);

void
pass_begin(DatabaseSlot *of)
{
	slot = of;
	step_context = AllocSetContextCreate(TopMemoryContext, "distlock step",
										 ALLOCSET_DEFAULT_SIZES);
	full_round_at = GetCurrentTimestamp() + FULL_ROUND;
	schedule_begin(of);
}

bool
pass_is_under_way(void)
{
	return in_pass;
}

StepResult
pass_step(void)
{
	LockTable	table;
	List	   *looks = NIL;
	ListCell   *cell;
	MemoryContext caller = CurrentMemoryContext;
	int64		time;
	StepResult	result;
	LockTableState state;

	INSTR_TIME_SET_CURRENT(step_began);
	if (!in_pass)
	{
		pass_began = GetCurrentTimestamp();
		if (pass_began >= full_round_at)
		{
			schedule_all();
			full_round_at = pass_began + FULL_ROUND;
		}
		schedule_begin_pass(pass_began);
		in_pass = true;
		collected = false;
		pass_time = 0;
		next_group = 0;
	}

	MemoryContextReset(step_context);
	StartTransactionCommand();
	state = lock_table_try_open(&table, RowExclusiveLock);
	if (state != LOCK_TABLE_OPEN)
	{
		CommitTransactionCommand();
		MemoryContextSwitchTo(caller);
		if (state == LOCK_TABLE_MISSING)
			return give_up(STEP_NO_EXTENSION, RETRY_BUSY);
		if (state == LOCK_TABLE_UNFIT)
			return give_up(STEP_TABLE_UNFIT, RETRY_UNFIT);
		return give_up(STEP_TABLE_BUSY, RETRY_BUSY);
	}

	FAIL_POINT("worker_step_begun");
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(step_context);
	result = work(&table, &looks);
	failing_group = -1;
	PopActiveSnapshot();
	lock_table_close(&table, true);
	FAIL_POINT("worker_before_commit");
	CommitTransactionCommand();
	FAIL_POINT("worker_after_commit");
	MemoryContextSwitchTo(caller);

	/* Now that it is committed, the schedule may rely on it. */
	foreach(cell, looks)
	{
		Look	   *look = lfirst(cell);

		schedule_set(look->group, look->now, look->due, look->has_sessions);
	}

	time = step_time();
	pass_time += time;
	slot->longest_step = Max(slot->longest_step, time);
	if (result == STEP_DONE)
	{
		schedule_end_pass(full_round_at);
		in_pass = false;
		slot->passes++;
		slot->last_pass_at = pass_began;
		slot->last_pass_time = pass_time;
	}
	return result;
}

void
pass_failed(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (failing_group >= 0)
		schedule_set_failed(failing_group, now + RETRY_FAILED);
	failing_group = -1;
	(void) give_up(STEP_DONE, 0);
}

/*
 * Nothing can be done now.  What the schedule has been asked for stays so, since
 * it is asked again at that time.
 */
static StepResult
give_up(StepResult result, int64 retry)
{
	in_pass = false;
	schedule_retry_at(GetCurrentTimestamp() + retry);
	return result;
}

/*
 * Look at pages that are due until there are no more, or the step is long
 * enough.
 */
static StepResult
work(LockTable *table, List **looks)
{
	TransactionId horizon = lock_table_horizon(table);
	int			rows = 0;

	if (!collected)
	{
		if (lock_table_storage(table) != storage)
			schedule_all();
		storage = lock_table_storage(table);
		schedule_collect(lock_table_pages(table));
		collected = true;
	}

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		Look	   *look;
		ListCell   *cell;

		next_group = schedule_next_due(next_group, now);
		if (next_group < 0)
			return STEP_DONE;

		failing_group = next_group;
		look = look_at_group(table, next_group, horizon);
		FAIL_POINT("worker_looked");
		if (look->has_losses && !prepare_to_announce(rows))
			return STEP_MORE;
		failing_group = next_group++;
		*looks = lappend(*looks, look);
		foreach(cell, look->candidates)
		{
			/*
			 * Warnings come first, and are not given twice.  Something has to
			 * be done in each step, however slow it is.
			 */
			if (((Candidate *) lfirst(cell))->kind != CANDIDATE_WARNING &&
				rows > 0 && step_is_long_enough(rows))
			{
				look->due = DT_NOBEGIN;
				next_group--;
				break;
			}
			rows += treat(table, look, lfirst(cell), horizon);
			FAIL_POINT("worker_treated");
		}
		if (step_is_long_enough(rows))
			return STEP_MORE;
	}
}

static bool
step_is_long_enough(int rows)
{
	return rows >= ROWS_PER_STEP || step_time() >= STEP_TIME_US;
}

/*
 * PostgreSQL commits transactions that notify one after the other, by a lock
 * that the commit would wait for; whoever has it may be waiting for a standby.
 * So that nobody's key is locked all that time, we wait for it, a second at
 * most (lock_timeout), before we lock any.  False when this step has done
 * something already: let it end first.
 */
static bool
prepare_to_announce(int rows)
{
	if (event_lock_is_held() ||
		!(event_is_wanted(EVENT_EXPIRED) || event_is_wanted(EVENT_EXPIRING)))
		return true;
	if (rows > 0)
		return false;
	failing_group = -1;			/* not the page's fault */
	event_lock_take();
	FAIL_POINT("worker_may_announce");
	/* The time that counts is that in which keys are locked. */
	INSTR_TIME_SET_CURRENT(step_began);
	return true;
}

static Look *
look_at_group(LockTable *table, int group, TransactionId horizon)
{
	Look	   *look = palloc(sizeof(Look));
	BlockNumber page;
	BlockNumber end;

	look->group = group;
	look->now = GetCurrentTimestamp();
	look->looked_at = schedule_looked_at(group);
	look->due = DT_NOEND;
	look->has_sessions = look->has_losses = false;
	look->candidates = NIL;

	schedule_group_pages(group, &page, &end);
	end = Min(end, lock_table_pages(table));
	for (; page < end; page++)
		lock_page_visit(table, page, horizon, look_at_row, look);
	return look;
}

/*
 * See lock_page_visit().
 */
static void
look_at_row(const LockRow *row, bool pending, bool settled, void *arg)
{
	Look	   *look = arg;
	TimestampTz due;

	if (row->token != NULL && row->scope == SCOPE_SESSION)
	{
		look->has_sessions = true;
		if (pending)
			look->due = Min(look->due, look->now + RETRY_SESSION);
		else
			add_candidate(look, CANDIDATE_SESSION, row);
	}
	else if (row->token != NULL)
		look_at_lease(look, row, pending);
	else
	{
		due = schedule_row_due(row);
		if (due > look->now)
			look->due = Min(look->due, due);
		else if (settled && !pending)
			add_candidate(look, CANDIDATE_FREE, row);
		else
			look->due = Min(look->due, look->now + RETRY_PURGE);
	}
}

static void
look_at_lease(Look *look, const LockRow *row, bool pending)
{
	TimestampTz due;

	if (row->expires_at <= look->now)
	{
		if (pending)
			look->due = Min(look->due, retry_lapsed(look, row));
		else
			add_candidate(look, CANDIDATE_LAPSED, row);
		return;
	}

	/* The time of its warning, unless that has come, or its end. */
	due = schedule_row_due(row);
	if (due <= look->now)
	{
		if (pending)
		{
			add_pending_warning(look, row);
			due = look->now + RETRY_LAPSED;
		}
		else
		{
			/* At the last look, was it time already? */
			if (take_pending_warning(row) || due > look->looked_at)
				add_candidate(look, CANDIDATE_WARNING, row);
			due = row->expires_at;
		}
	}
	look->due = Min(look->due, due);
}

static void
add_candidate(Look *look, CandidateKind kind, const LockRow *row)
{
	Candidate  *candidate = palloc(sizeof(Candidate));

	candidate->kind = kind;
	candidate->row = *row;
	candidate->row.key = text_copy(row->key);
	candidate->row.owner = text_copy(row->owner);
	/* Not NULL says that it is held; nobody needs to know more. */
	candidate->row.token = row->token != NULL ? candidate->row.key : NULL;
	candidate->row.data = NULL;
	look->candidates = kind == CANDIDATE_WARNING ?
		lcons(candidate, look->candidates) :
		lappend(look->candidates, candidate);
	if (kind != CANDIDATE_FREE)
		look->has_losses = true;
}

static void
add_pending_warning(const Look *look, const LockRow *row)
{
	PendingWarning *free_place = NULL;
	LockKey		key;

	key_from_stored(&key, row->key);
	for (int i = 0; i < MAX_PENDING_WARNINGS; i++)
	{
		PendingWarning *warning = &pending_warnings[i];

		if (warning->key_hash == key.hash &&
			warning->expires_at == row->expires_at)
			return;
		if (warning->expires_at <= look->now)
			free_place = warning;
	}
	if (free_place == NULL)
		return;
	free_place->key_hash = key.hash;
	free_place->expires_at = row->expires_at;
}

static bool
take_pending_warning(const LockRow *row)
{
	LockKey		key;

	key_from_stored(&key, row->key);
	for (int i = 0; i < MAX_PENDING_WARNINGS; i++)
	{
		PendingWarning *warning = &pending_warnings[i];

		if (warning->key_hash == key.hash &&
			warning->expires_at == row->expires_at)
		{
			warning->expires_at = 0;
			return true;
		}
	}
	return false;
}

/*
 * Do what is to be done to a row; returns the number of rows changed.
 */
static int
treat(LockTable *table, Look *look, Candidate *candidate,
	  TransactionId horizon)
{
	LockRow    *row = &candidate->row;

	if (candidate->kind == CANDIDATE_WARNING)
	{
		stats_event(!event_send(event_payload(EVENT_EXPIRING, row,
											  row->expires_at)));
		return 1;
	}
	if (candidate->kind == CANDIDATE_SESSION && !session_is_over(look, row))
		return 0;

	switch (purge_row(table, row->key, horizon))
	{
		case PURGE_FREED:
			slot->expired++;
			look->due = Min(look->due, look->now + USECS_PER_SEC +
							setting_purge_after * INT64CONST(1000));
			return 1;
		case PURGE_DELETED:
			slot->purged++;
			/* Come again to make free space of it. */
			look->due = Min(look->due, look->now + RETRY_PURGE);
			return 1;
		case PURGE_NOT_NOW:
			if (candidate->kind == CANDIDATE_LAPSED)
				look->due = Min(look->due, retry_lapsed(look, row));
			else
				look->due = Min(look->due, look->now +
								(candidate->kind == CANDIDATE_FREE ?
								 RETRY_PURGE : RETRY_SESSION));
			return 0;
		case PURGE_NOTHING:
			/* It has changed since the page was read, and is noted as such. */
			return 0;
	}
	return 0;
}

static TimestampTz
retry_lapsed(const Look *look, const LockRow *row)
{
	int64		past = (look->now - row->expires_at) / RETRY_LAPSED_PART;

	return look->now + Min(Max(past, RETRY_LAPSED), RETRY_LAPSED_LONGEST);
}

static bool
session_is_over(Look *look, const LockRow *row)
{
	TimestampTz end = holder_end(row);

	if (end <= look->now)
		return true;
	look->due = Min(look->due, end);
	return false;
}

static int64
step_time(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, step_began);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}
