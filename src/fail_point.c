/*-------------------------------------------------------------------------
 *
 * fail_point.c
 *	  Places at which a test can make distlock fail.
 *
 * The setting distlock.fail_points, which only a build for tests has, is a list
 * of places and of what is done there:
 *
 *		acquire_after_fence=error, worker_before_commit=kill_postmaster%10
 *
 * - error			raise an error, SQLSTATE LK099
 * - sleep:50		go on after so many milliseconds
 * - kill			end this process, as kill -9 does
 * - kill_postmaster	end the postmaster so, and go on; who waits, or is about
 *					to, notices and ends
 *
 * followed by @3, for the third time only that this process comes there since
 * the setting was changed; or by %10, with a probability of 10 percent.  "*" stands
 * for all places, with "error" for all that allow it.  Of several entries for a
 * place, the last counts.
 *
 * Where an error would be a PANIC, or leave a transaction half ended, it is not
 * allowed: nothing there can fail without it either.
 *
 * What is done is written to the log first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fail_point.h"

#ifdef DISTLOCK_FAIL_POINTS

#include <limits.h>
#include <signal.h>
#include <unistd.h>

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "compat.h"

#define ERRCODE_FAIL_POINT		MAKE_SQLSTATE('L', 'K', '0', '9', '9')

/* The manual, which has all messages, is for builds without fail points. */
#define MESSAGE "fail point \"%s\": %s"

/* May an error be raised there? */
#define ERROR_ALLOWED true
#define NO_ERROR false

typedef struct PlaceToFail
{
	const char *name;
	bool		error_allowed;
} PlaceToFail;

/* One a line, each used once: test/torture/failpoints.pl reads them here. */
static const PlaceToFail points[] = {
	/* acquire */
	{"acquire_begin", ERROR_ALLOWED},
	{"acquire_passing_queue", ERROR_ALLOWED},
	{"acquire_after_key_lock", ERROR_ALLOWED},
	{"acquire_after_reread", ERROR_ALLOWED},
	{"acquire_after_clock", ERROR_ALLOWED},
	{"acquire_after_token", ERROR_ALLOWED},
	{"acquire_after_fence", ERROR_ALLOWED},
	{"acquire_after_session_lock", ERROR_ALLOWED},
	{"acquire_after_write", ERROR_ALLOWED},
	{"acquire_after_hold", ERROR_ALLOWED},
	{"renew_after_key_lock", ERROR_ALLOWED},
	{"session_lock_noted", ERROR_ALLOWED},
	{"token_pool_filled", ERROR_ALLOWED},

	/* waiting */
	{"queue_noted", ERROR_ALLOWED},
	{"queue_got_head", ERROR_ALLOWED},
	{"queue_head_looked", ERROR_ALLOWED},
	{"queue_head_asleep", ERROR_ALLOWED},
	{"queue_head_woken", ERROR_ALLOWED},
	{"queue_head_awaits_session", ERROR_ALLOWED},
	{"queue_timed_out", ERROR_ALLOWED},
	{"queue_leaving", ERROR_ALLOWED},
	{"queue_left", ERROR_ALLOWED},
	{"wait_begun", ERROR_ALLOWED},
	{"wait_lock_got", ERROR_ALLOWED},

	/* other verbs */
	{"verb_looked", ERROR_ALLOWED},
	{"verb_after_key_lock", ERROR_ALLOWED},
	{"extend_after_reread", ERROR_ALLOWED},
	{"extend_after_write", ERROR_ALLOWED},
	{"ensure_stays", ERROR_ALLOWED},
	{"release_after_reread", ERROR_ALLOWED},
	{"release_after_write", ERROR_ALLOWED},
	{"guard_after_reread", ERROR_ALLOWED},
	{"guard_after_hold", ERROR_ALLOWED},
	{"all_next_key", ERROR_ALLOWED},
	{"force_begin", ERROR_ALLOWED},
	{"force_after_key_lock", ERROR_ALLOWED},
	{"force_after_fence", ERROR_ALLOWED},
	{"force_after_write", ERROR_ALLOWED},
	{"do_before_command", ERROR_ALLOWED},
	{"run_committed", ERROR_ALLOWED},
	{"run_before_release", ERROR_ALLOWED},
	{"run_before_commit", ERROR_ALLOWED},

	/* rows and pages */
	{"row_not_indexed", ERROR_ALLOWED},
	{"row_updated", ERROR_ALLOWED},
	{"row_deleted", ERROR_ALLOWED},
	{"page_before_pruning", ERROR_ALLOWED},
	{"page_pruned", ERROR_ALLOWED},

	/* the end of a transaction, and of a part of one */
	{"precommit_begin", ERROR_ALLOWED},
	{"precommit_touching", ERROR_ALLOWED},
	{"precommit_touched", ERROR_ALLOWED},
	{"precommit_purging", ERROR_ALLOWED},
	{"precommit_announced", ERROR_ALLOWED},
	{"commit_begin", NO_ERROR},
	{"commit_marked", NO_ERROR},
	{"commit_end", NO_ERROR},
	{"commit_before_wake", NO_ERROR},
	{"commit_waking", ERROR_ALLOWED},	/* it is caught there */
	{"commit_after_wake", NO_ERROR},
	{"commit_session_drop", NO_ERROR},
	{"prepare_begin", ERROR_ALLOWED},
	{"prepare_end", NO_ERROR},
	{"abort_begin", NO_ERROR},
	{"abort_end", NO_ERROR},
	{"subcommit", NO_ERROR},
	{"subabort", NO_ERROR},

	/* fences */
	{"fence_drawn", ERROR_ALLOWED},
	{"fence_limit_reached", ERROR_ALLOWED},
	{"fence_limit_set", ERROR_ALLOWED},
	{"fence_limit_not_flushed", ERROR_ALLOWED},
	{"fence_start_new", ERROR_ALLOWED},
	{"fence_start_skipped", ERROR_ALLOWED},
	{"fence_start_recorded", ERROR_ALLOWED},
	{"fence_epoch_begun", ERROR_ALLOWED},
	{"fence_epoch_set", ERROR_ALLOWED},
	{"fence_epoch_limit_set", ERROR_ALLOWED},
	{"fence_epoch_not_flushed", ERROR_ALLOWED},
	{"fence_incarnation_not_flushed", ERROR_ALLOWED},

	/* purge */
	{"purge_step", ERROR_ALLOWED},
	{"purge_after_key_lock", ERROR_ALLOWED},
	{"purge_freed", ERROR_ALLOWED},
	{"purge_deleted", ERROR_ALLOWED},

	/* worker and launcher */
	{"worker_entering", ERROR_ALLOWED},
	{"worker_step_begun", ERROR_ALLOWED},
	{"worker_looked", ERROR_ALLOWED},
	{"worker_may_announce", ERROR_ALLOWED},
	{"worker_treated", ERROR_ALLOWED},
	{"worker_before_commit", ERROR_ALLOWED},
	{"worker_after_commit", ERROR_ALLOWED},
	{"launcher_entered", ERROR_ALLOWED},
	{"launcher_before_start", ERROR_ALLOWED},
	{"launcher_registered", ERROR_ALLOWED},

	/* the mirror in Redis */
	{"mirror_marks_taken", ERROR_ALLOWED},
	{"mirror_greeting", ERROR_ALLOWED},
	{"mirror_claiming", ERROR_ALLOWED},
	{"mirror_claim_sent", ERROR_ALLOWED},
	{"mirror_claimed", ERROR_ALLOWED},
	{"mirror_reading", ERROR_ALLOWED},
	{"mirror_read", ERROR_ALLOWED},
	{"mirror_script_sent", ERROR_ALLOWED},
	{"mirror_answered", ERROR_ALLOWED},
	{"mirror_sweeping", ERROR_ALLOWED},
	{"mirror_swept", ERROR_ALLOWED},
	{"mirror_reconciling", ERROR_ALLOWED},
	{"mirror_check_asked", ERROR_ALLOWED},
	{"mirror_check_begun", ERROR_ALLOWED},
};

typedef enum FailAction
{
	FAIL_NOT,
	FAIL_ERROR,
	FAIL_SLEEP,
	FAIL_KILL,
	FAIL_KILL_POSTMASTER
} FailAction;

static const char *const action_names[] = {
	[FAIL_ERROR] = "error",
	[FAIL_SLEEP] = "sleep",
	[FAIL_KILL] = "kill",
	[FAIL_KILL_POSTMASTER] = "kill_postmaster",
};

/* What the setting says of a point. */
typedef struct FailPoint
{
	FailAction	action;
	int			ms;				/* to sleep */
	int			nth;			/* 0: each time */
	int			percent;		/* 0: always */
} FailPoint;

typedef struct FailPoints
{
	bool		any;
	FailPoint	of[lengthof(points)];
} FailPoints;

static char *fail_points;
static const FailPoints *current = NULL;
static int	times[lengthof(points)];	/* that this process came there */

static bool check_fail_points(char **new_value, void **extra, GucSource source);
static void assign_fail_points(const char *new_value, void *extra);
static bool read_entry(const char *entry, FailPoints *result);
static bool read_action(const char *text, FailPoint *point);
static bool read_number(const char **text, int min, int max, int *number);
static bool is_due(int i);

void
fail_points_define(void)
{
	DefineCustomStringVariable("distlock.fail_points",
							   "Makes distlock fail at places in its code, for tests.",
							   NULL,
							   &fail_points,
							   "",
							   PGC_SUSET,
							   GUC_LIST_INPUT | GUC_NOT_IN_SAMPLE,
							   check_fail_points, assign_fail_points, NULL);
}

void
fail_point(const char *name)
{
	const FailPoint *point;
	int			i = 0;

	if (current == NULL || !current->any)
		return;
	while (i < lengthof(points) && strcmp(points[i].name, name) != 0)
		i++;
	Assert(i < lengthof(points));
	if (i == lengthof(points) || !is_due(i))
		return;

	point = &current->of[i];
	ereport(point->action == FAIL_ERROR ? LOG_SERVER_ONLY : LOG,
			(errmsg(MESSAGE, name, action_names[point->action]),
			 errhidestmt(true),
			 errhidecontext(true)));
	switch (point->action)
	{
		case FAIL_NOT:
			break;
		case FAIL_ERROR:
			ereport(ERROR,
					(errcode(ERRCODE_FAIL_POINT),
					 errmsg(MESSAGE, name, action_names[point->action])));
			break;
		case FAIL_SLEEP:
			pg_usleep(point->ms * 1000L);
			break;
		case FAIL_KILL:
			kill(MyProcPid, SIGKILL);
			for (;;)
				pause();
			break;
		case FAIL_KILL_POSTMASTER:
			kill(PostmasterPid, SIGKILL);
			break;
	}
}

/*
 * Count that the process has come there.  Is something to be done?
 */
static bool
is_due(int i)
{
	const FailPoint *point = &current->of[i];

	times[i]++;
	if (point->action == FAIL_NOT ||
		(point->nth > 0 && times[i] != point->nth))
		return false;
	return point->percent == 0 ||
		pg_prng_double(&pg_global_prng_state) * 100 < point->percent;
}

static bool
check_fail_points(char **new_value, void **extra, GucSource source)
{
	char	   *list = pstrdup(*new_value);
	List	   *entries;
	ListCell   *cell;
	FailPoints *result;

	if (!SplitGUCList(list, ',', &entries))
	{
		GUC_check_errdetail("List syntax is invalid.");
		return false;
	}
	result = compat_guc_alloc(sizeof(FailPoints));
	if (result == NULL)
		return false;
	memset(result, 0, sizeof(FailPoints));
	result->any = entries != NIL;
	foreach(cell, entries)
	{
		if (!read_entry(lfirst(cell), result))
		{
			compat_guc_free(result);
			return false;
		}
	}
	list_free(entries);
	pfree(list);
	*extra = result;
	return true;
}

static void
assign_fail_points(const char *new_value, void *extra)
{
	current = extra;
	memset(times, 0, sizeof(times));
}

/*
 * False, with the reason told, if it is not right.
 */
static bool
read_entry(const char *entry, FailPoints *result)
{
	const char *equals = strchr(entry, '=');
	char	   *name;
	FailPoint	point;
	bool		all;
	bool		found = false;

	if (equals == NULL)
	{
		GUC_check_errdetail("\"%s\" does not say what is to be done there.",
							entry);
		GUC_check_errhint("Write a point, \"=\" and an action.");
		return false;
	}
	if (!read_action(equals + 1, &point))
		return false;

	name = pnstrdup(entry, equals - entry);
	all = strcmp(name, "*") == 0;
	for (int i = 0; i < lengthof(points); i++)
	{
		if (!all && strcmp(points[i].name, name) != 0)
			continue;
		found = true;
		if (point.action != FAIL_ERROR || points[i].error_allowed)
			result->of[i] = point;
		else if (!all)
		{
			GUC_check_errdetail("No error can be raised at \"%s\".", name);
			return false;
		}
	}
	if (!found)
	{
		GUC_check_errdetail("There is no fail point \"%s\".", name);
		GUC_check_errhint("They are listed in src/fail_point.c.");
	}
	pfree(name);
	return found;
}

static bool
read_action(const char *text, FailPoint *point)
{
	const char *rest = text +strcspn(text, ":@%");
	bool		good;

	memset(point, 0, sizeof(FailPoint));
	for (int i = FAIL_ERROR; i < lengthof(action_names); i++)
	{
		if (strncmp(text, action_names[i], rest - text) == 0 &&
			strlen(action_names[i]) == rest - text)
			point->action = i;
	}
	good = point->action != FAIL_NOT;
	if (good && point->action == FAIL_SLEEP)
	{
		good = *rest == ':';
		rest += good;
		good = good && read_number(&rest, 0, INT_MAX / 1000, &point->ms);
	}
	if (good && *rest == '@')
	{
		rest++;
		good = read_number(&rest, 1, INT_MAX, &point->nth);
	}
	else if (good && *rest == '%')
	{
		rest++;
		good = read_number(&rest, 1, 100, &point->percent);
	}
	if (!good || *rest != '\0')
	{
		GUC_check_errdetail("\"%s\" is no action.", text);
		GUC_check_errhint("Actions are error, sleep:MILLISECONDS, kill and kill_postmaster, each followed by @N or %%N if need be.");
		return false;
	}
	return true;
}

static bool
read_number(const char **text, int min, int max, int *number)
{
	char	   *end;
	long		value;

	if (**text <'0' || **text >'9')
		return false;
	errno = 0;
	value = strtol(*text, &end, 10);
	*text = end;
	*number = (int) value;
	return errno == 0 && value >= min && value <= max;
}

#endif							/* DISTLOCK_FAIL_POINTS */
