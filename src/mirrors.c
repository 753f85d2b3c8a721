/*-------------------------------------------------------------------------
 *
 * mirrors.c
 *	  The mirrors of a database, as the worker sees them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "compat.h"
#include "fail_point.h"
#include "mirror.h"
#include "mirror_check.h"
#include "mirror_marks.h"
#include "mirror_settings.h"
#include "mirrors.h"
#include "redis.h"
#include "steady_clock.h"

/*
 * How long after marks have been taken the next are, in microseconds, when changes
 * come one after the other.  What is acquired and released meanwhile is not sent, a
 * page with several changes is read once, and who commits need not wake us: with
 * 4 sessions doing nothing but acquire and release, the worker and Redis took 21
 * instead of 55 microseconds of processor time for each pair.
 */
#define PAUSE 500

static DatabaseSlot *slot = NULL;	/* not begun */
static char database_name[NAMEDATALEN];
static Mirror *mirrors[MAX_MIRRORS];
static int	num_mirrors = 0;
static char *fingerprint = NULL;	/* of the settings that they are made of */
static int64 taken_at = 0;		/* when marks were taken, by steady_now() */

static void hold_on(void);
static void start(void);
static void stop(void);

void
mirrors_begin(DatabaseSlot *of, const char *database)
{
	slot = of;
	strlcpy(database_name, database, NAMEDATALEN);
	start();
}

void
mirrors_reload(void)
{
	char	   *now = mirror_settings_fingerprint();

	if (strcmp(now, fingerprint) != 0)
	{
		stop();
		start();
	}
	pfree(now);
}

/*
 * The marks stay where they are, and sessions need not wake us, as long as no
 * mirror is connected: one that connects reads all pages anyway.
 */
bool
mirrors_work(void)
{
	static PageMarks marks;
	bool		more = false;
	bool		wanted = false;
	bool		behind = false;
	bool		gap;
	TransactionId prepared = InvalidTransactionId;

	for (int i = 0; i < num_mirrors; i++)
		wanted = mirror_is_sending(mirrors[i]) || wanted;
	if (wanted)
	{
		gap = mirror_marks_take_gap(slot);
		mirror_marks_take(slot, &marks);
		FAIL_POINT("mirror_marks_taken");
		if (page_marks_any(&marks))
			taken_at = steady_now();
		for (int i = 0; i < num_mirrors && (gap || page_marks_any(&marks)); i++)
			mirror_note(mirrors[i], &marks, gap);
	}
	for (int i = 0; i < num_mirrors; i++)
	{
		more = mirror_step(mirrors[i]) || more;
		behind = mirror_is_behind(mirrors[i]) || behind;
		prepared = TransactionIdOlder(prepared, mirror_prepared(mirrors[i]));
	}
	mirror_marks_set_behind(slot, behind, prepared);
	mirror_check_step(slot, mirrors, num_mirrors);
	return more;
}

void
mirrors_cancelled(void)
{
	for (int i = 0; i < num_mirrors; i++)
		mirror_begin_anew(mirrors[i]);
}

void
mirrors_failed(const char *reason)
{
	for (int i = 0; i < num_mirrors; i++)
		mirror_fail(mirrors[i], reason);
	mirror_check_stop();
	mirror_marks_set_behind(slot, false, InvalidTransactionId);
}

/*
 * The set of what to wait for is made anew each time, as WaitLatchOrSocket()
 * does: a socket that was closed and another that was opened since may have the
 * same number.
 */
bool
mirrors_wait(long ms)
{
	WaitEventSet *set;
	WaitEvent	event;
	int64		due = PG_INT64_MAX;

	if (num_mirrors == 0)
		return false;

	set = compat_wait_event_set(2 + MAX_MIRRORS);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < num_mirrors; i++)
	{
		int			fd = mirror_socket(mirrors[i]);

		if (fd >= 0)
			AddWaitEventToSet(set, mirror_events(mirrors[i]), fd, NULL, NULL);
		due = Min(due, mirror_due(mirrors[i]));
	}
	if (due != PG_INT64_MAX)
	{
		/* Rounded up: not to be there a little too early, several times. */
		int64		left = (due - steady_now() + 999) / 1000;

		ms = (long) Max(Min(left, ms), 0);
	}
	if (WaitEventSetWait(set, ms, &event, 1, compat_wait_event_mirror()) == 1 &&
		event.events == WL_LATCH_SET)
		hold_on();
	FreeWaitEventSet(set);
	return true;
}

/*
 * The latch stays set, so that nobody spends a signal on us.
 */
static void
hold_on(void)
{
	int64		left = taken_at + PAUSE - steady_now();

	if (left > 0)
		pg_usleep(left);
}

void
mirrors_end(void)
{
	if (slot != NULL)
		stop();
	slot = NULL;
}

static void
start(void)
{
	MemoryContext saved = MemoryContextSwitchTo(TopMemoryContext);

	fingerprint = mirror_settings_fingerprint();
	MemoryContextSwitchTo(saved);

	for (int i = 0; i < setting_redis_addresses->n; i++)
	{
		mirrors[i] = mirror_new(&setting_redis_addresses->list[i],
								&slot->mirrors[i], database_name);
		num_mirrors = i + 1;
	}
	slot->num_mirrors = num_mirrors;
	mirror_marks_set_behind(slot, false, InvalidTransactionId);
	mirror_marks_want(slot, num_mirrors > 0);
}

static void
stop(void)
{
	slot->num_mirrors = 0;
	mirror_marks_want(slot, false);
	for (int i = 0; i < num_mirrors; i++)
		mirror_free(mirrors[i]);
	num_mirrors = 0;
	mirror_check_stop();
	if (fingerprint != NULL)
		pfree(fingerprint);
	fingerprint = NULL;
}
