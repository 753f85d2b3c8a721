/*-------------------------------------------------------------------------
 *
 * schedule.c
 *	  When the worker has to look at which page of the lock table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "schedule.h"
#include "settings.h"

/* More pages than this are taken together in groups. */
#define MAX_GROUPS 32768

/*
 * Free rows need not be purged to the microsecond: those that are due within
 * such a time are due together.
 */
#define PURGE_GRAIN USECS_PER_SEC

/*
 * Sessions can end without telling (DISCARD ALL drops their locks): when there
 * are locks of sessions, look so often.
 */
#define SESSION_ROUND (10 * USECS_PER_SEC)

/*
 * A session tells that it ends when it still has its locks.  It is looked at
 * again after the first of these times, and three times more, each five times as
 * long after.
 */
#define SESSION_END_DELAY (4 * USECS_PER_SEC / 1000)
#define SESSION_END_LOOKS 4

typedef struct Group
{
	TimestampTz due;
	TimestampTz looked_at;
	bool		has_sessions;
	bool		failed;			/* at the last try to look */
} Group;

/* The worker's own. */
static DatabaseSlot *slot;
static Group *groups = NULL;
static int	num_groups = 0;
static int	allocated_groups = 0;
static int	pages_shift = 0;	/* a group has 1 << pages_shift pages */
static bool has_sessions = false;
static TimestampTz sessions_due = DT_NOEND;
static int	session_looks_left = 0;
static int64 session_look_delay = 0;

static bool lower(pg_atomic_uint64 *where, TimestampTz value);
static void say_session_ends(int code, Datum arg);
static void resize(BlockNumber pages);
static void halve_groups(void);
static void mark_page(BlockNumber page);
static void mark_sessions(TimestampTz now);

TimestampTz
schedule_row_due(const LockRow *row)
{
	TimestampTz due = row->expires_at;

	/* A session's end cannot be foretold; see that it is known at least. */
	if (row->token != NULL && row->scope == SCOPE_SESSION)
		return GetCurrentTimestamp() + SESSION_ROUND;
	if (due >= DT_NOEND - INT64CONST(2) * PG_INT32_MAX * 1000)
		return DT_NOEND;
	if (row->token != NULL)
	{
		int64		warning = setting_expiry_warning * INT64CONST(1000);

		return warning > 0 && row->ttl > warning ? due - warning : due;
	}
	due += setting_purge_after * INT64CONST(1000) + PURGE_GRAIN;
	return due - due % PURGE_GRAIN;
}

void
schedule_note(BlockNumber page, TimestampTz due)
{
	DatabaseSlot *shared = shared_slot_if_attached();
	uint32		bit = page % DIRTY_BITS;
	pg_atomic_uint32 *word;
	uint32		mask = (uint32) 1 << (bit % 32);

	if (shared == NULL)
		return;

	/* The row before the bit, also if the bit is set already. */
	pg_memory_barrier();
	word = &shared->dirty[bit / 32];
	if ((pg_atomic_read_u32(word) & mask) == 0)
		pg_atomic_fetch_or_u32(word, mask);
	pg_memory_barrier();
	if (lower(&shared->wake_at, due))
		shared_wake(shared->worker_proc);
}

void
schedule_watch_session(void)
{
	static bool registered = false;

	if (registered)
		return;
	before_shmem_exit(say_session_ends, (Datum) 0);
	registered = true;
}

static void
say_session_ends(int code, Datum arg)
{
	DatabaseSlot *shared = shared_slot_if_attached();

	if (shared == NULL)
		return;
	pg_atomic_write_u32(&shared->session_ended, 1);
	pg_memory_barrier();
	if (lower(&shared->wake_at, GetCurrentTimestamp()))
		shared_wake(shared->worker_proc);
}

/*
 * All pages are to be looked at.
 */
void
schedule_begin(DatabaseSlot *of)
{
	slot = of;
	num_groups = 0;
	schedule_all();
}

void
schedule_all(void)
{
	for (int i = 0; i < num_groups; i++)
		groups[i].due = DT_NOBEGIN;
	if (slot != NULL)
		(void) lower(&slot->wake_at, GetCurrentTimestamp());
}

TimestampTz
schedule_wake_at(void)
{
	return (TimestampTz) pg_atomic_read_u64(&slot->wake_at);
}

void
schedule_begin_pass(TimestampTz now)
{
	(void) pg_atomic_exchange_u64(&slot->wake_at, (uint64) DT_NOEND);

	if (pg_atomic_exchange_u32(&slot->session_ended, 0) != 0)
	{
		session_looks_left = SESSION_END_LOOKS;
		session_look_delay = SESSION_END_DELAY;
		sessions_due = now + session_look_delay;
	}
	mark_sessions(now);
}

void
schedule_collect(BlockNumber pages)
{
	BlockNumber end;

	/* Groups, which may have pages by now that were not there a moment ago. */
	resize(pages);
	end = (BlockNumber) num_groups << pages_shift;
	for (int i = 0; i < DIRTY_WORDS; i++)
	{
		uint32		bits;

		if (pg_atomic_read_u32(&slot->dirty[i]) == 0)
			continue;
		bits = pg_atomic_exchange_u32(&slot->dirty[i], 0);
		for (int bit = 0; bit < 32; bit++)
		{
			if ((bits & ((uint32) 1 << bit)) == 0)
				continue;
			for (BlockNumber page = i * 32 + bit; page < end;
				 page += DIRTY_BITS)
				mark_page(page);
		}
	}
}

int
schedule_next_due(int group, TimestampTz now)
{
	for (; group < num_groups; group++)
	{
		if (groups[group].due <= now)
			return group;
	}
	return -1;
}

void
schedule_group_pages(int group, BlockNumber *first, BlockNumber *end)
{
	*first = (BlockNumber) group << pages_shift;
	*end = (BlockNumber) (group + 1) << pages_shift;
}

TimestampTz
schedule_looked_at(int group)
{
	return groups[group].looked_at;
}

void
schedule_set(int group, TimestampTz looked_at, TimestampTz due,
			 bool group_has_sessions)
{
	/* The table may have been found smaller since. */
	if (group >= num_groups)
		return;
	groups[group].looked_at = looked_at;
	groups[group].due = due;
	groups[group].has_sessions = group_has_sessions;
	groups[group].failed = false;
	if (group_has_sessions && !has_sessions)
	{
		has_sessions = true;
		sessions_due = Min(sessions_due, looked_at + SESSION_ROUND);
	}
}

void
schedule_set_failed(int group, TimestampTz due)
{
	if (group >= num_groups)
		return;
	groups[group].due = due;
	groups[group].failed = true;
}

bool
schedule_any_failed(void)
{
	for (int i = 0; i < num_groups; i++)
	{
		if (groups[i].failed)
			return true;
	}
	return false;
}

void
schedule_end_pass(TimestampTz due)
{
	due = Min(due, sessions_due);
	for (int i = 0; i < num_groups; i++)
		due = Min(due, groups[i].due);
	(void) lower(&slot->wake_at, due);
}

void
schedule_retry_at(TimestampTz time)
{
	(void) lower(&slot->wake_at, time);
}

/*
 * Make it no later than this; true if that has changed it.
 */
static bool
lower(pg_atomic_uint64 *where, TimestampTz value)
{
	uint64		old = pg_atomic_read_u64(where);

	while (value < (TimestampTz) old)
	{
		if (pg_atomic_compare_exchange_u64(where, &old, (uint64) value))
			return true;
	}
	return false;
}

static void
resize(BlockNumber pages)
{
	int			wanted;

	while ((pages >> pages_shift) >= MAX_GROUPS)
		halve_groups();
	wanted = (pages + ((BlockNumber) 1 << pages_shift) - 1) >> pages_shift;

	if (wanted > allocated_groups)
	{
		int			size = Max(64, Max(wanted, 2 * allocated_groups));

		if (groups == NULL)
			groups = MemoryContextAlloc(TopMemoryContext, size * sizeof(Group));
		else
			groups = repalloc(groups, size * sizeof(Group));
		allocated_groups = size;
	}
	for (int i = num_groups; i < wanted; i++)
	{
		groups[i].due = DT_NOBEGIN;
		groups[i].looked_at = DT_NOBEGIN;
		groups[i].has_sessions = groups[i].failed = false;
	}
	num_groups = wanted;
}

/*
 * Make groups of twice as many pages.
 */
static void
halve_groups(void)
{
	int			n = (num_groups + 1) / 2;

	for (int i = 0; i < n; i++)
	{
		Group	   *a = &groups[2 * i];
		Group	   *b = 2 * i + 1 < num_groups ? &groups[2 * i + 1] : a;

		groups[i].due = Min(a->due, b->due);
		groups[i].looked_at = Min(a->looked_at, b->looked_at);
		groups[i].has_sessions = a->has_sessions || b->has_sessions;
		groups[i].failed = a->failed || b->failed;
	}
	num_groups = n;
	pages_shift++;
}

static void
mark_page(BlockNumber page)
{
	groups[page >> pages_shift].due = DT_NOBEGIN;
}

/*
 * Look at the locks of sessions if it is time.
 */
static void
mark_sessions(TimestampTz now)
{
	if (sessions_due > now)
		return;

	has_sessions = false;
	for (int i = 0; i < num_groups; i++)
	{
		if (groups[i].has_sessions)
		{
			groups[i].due = DT_NOBEGIN;
			has_sessions = true;
		}
	}
	if (session_looks_left > 0)
	{
		session_looks_left--;
		sessions_due = now + session_look_delay;
		session_look_delay *= 5;
	}
	else
		sessions_due = has_sessions ? now + SESSION_ROUND : DT_NOEND;
}
