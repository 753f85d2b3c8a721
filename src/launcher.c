/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  Who keeps the workers.  See README.worker.md.
 *
 * A launcher is connected to no database; what it knows of databases is in
 * pg_database, and what it knows of extensions is what workers tell that it has
 * started there.  Each state of a database has a function that says what comes
 * next; nothing else changes the state.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "databases.h"
#include "fail_point.h"
#include "launcher.h"
#include "settings.h"
#include "shared.h"
#include "worker.h"

/* The postmaster starts a launcher again after so many seconds. */
#define RESTART_S 1

#define RETRY_WANTED (200 * USECS_PER_SEC / 1000)
#define RETRY_NO_PLACE (5 * USECS_PER_SEC)
#define SHORTEST_PAUSE USECS_PER_SEC
#define LONGEST_PAUSE (60 * USECS_PER_SEC)

/* A worker that has run so long is not taken to fail all the time. */
#define LONG_ENOUGH (60 * USECS_PER_SEC)

/* It takes milliseconds to start. */
#define LONG_START USECS_PER_SEC
#define LONGEST_START (10 * USECS_PER_SEC)

/* Of the database that a keeper is for; InvalidOid: all databases. */
static Oid	only_database;

static SharedState *shared;
static TimestampTz look_at = 0; /* when to look at pg_database again */

/* Since when no worker could be registered, and when that was last tried. */
static TimestampTz no_place_since = 0;
static TimestampTz no_place_at = 0;

/* What has been reported and has not changed since. */
static bool no_place_reported = false;
static bool no_slot_reported = false;

static void register_launcher(Oid database, bool dynamic,
							  BackgroundWorkerHandle **handle, bool *registered);
static void enter(void);
static void at_exit(int code, Datum arg);
static void reload(void);
static void take_questions(void);
static void end_rests(void);
static void look_at_databases(void);
static void free_unknown_slots(void);
static bool is_anybody_starting(void);
static void advance(Database *database);
static void leave_if_not_asked(void);
static void begin_to_start(Database *database);
static void watch_start(Database *database);
static void watch_run(Database *database);
static void worker_ended(Database *database, WorkerEnd end);
static bool is_place_expected(void);
static void report_no_place(void);
static void report_no_slot(void);
static void sleep_until_needed(void);

void
launcher_register(void)
{
	register_launcher(InvalidOid, false, NULL, NULL);
}

bool
launcher_register_keeper(Oid database)
{
	BackgroundWorkerHandle *handle;
	bool		registered;

	register_launcher(database, true, &handle, &registered);
	return registered;
}

static void
register_launcher(Oid database, bool dynamic, BackgroundWorkerHandle **handle,
				  bool *registered)
{
	BackgroundWorker worker = {0};

	strlcpy(worker.bgw_name, "distlock launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "distlock launcher", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_S;
	strlcpy(worker.bgw_library_name, "distlock",
			sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "distlock_launcher_main",
			sizeof(worker.bgw_function_name));
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	if (dynamic)
		*registered = RegisterDynamicBackgroundWorker(&worker, handle);
	else
		RegisterBackgroundWorker(&worker);
}

void
distlock_launcher_main(Datum database)
{
	ListCell   *cell;

	only_database = DatumGetObjectId(database);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, SIG_IGN);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	worker_fix_settings();
	enter();

	for (;;)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		reload();
		take_questions();
		end_rests();
		if (look_at <= GetCurrentTimestamp())
			look_at_databases();
		foreach(cell, databases_all())
			advance(lfirst(cell));
		sleep_until_needed();
	}
}

static void
enter(void)
{
	DatabaseSlot *slot = NULL;
	bool		other;

	StartTransactionCommand();
	shared = shared_state();
	CommitTransactionCommand();
	if (shared == NULL)
		proc_exit(0);

	shared_lock();
	if (OidIsValid(only_database))
	{
		slot = shared_find_slot(only_database);
		if (slot == NULL)
			slot = shared_make_slot(only_database, false);
		other = slot == NULL || slot->keeper_pid != 0;
		if (!other)
		{
			slot->keeper_pid = MyProcPid;
			slot->keeper_proc = compat_my_proc();
		}
	}
	else
	{
		other = shared->launcher_pid != 0;
		if (!other)
		{
			shared->launcher_pid = MyProcPid;
			shared->launcher_proc = compat_my_proc();
		}
	}
	shared_unlock();
	if (other)
		proc_exit(0);
	before_shmem_exit(at_exit, (Datum) 0);
	FAIL_POINT("launcher_entered");
	pgstat_report_activity(STATE_IDLE, "");
	ereport(LOG, (errmsg("distlock launcher started")));
}

static void
at_exit(int code, Datum arg)
{
	DatabaseSlot *slot;

	shared_lock();
	if (OidIsValid(only_database))
	{
		slot = shared_find_slot(only_database);
		if (slot != NULL && slot->keeper_pid == MyProcPid)
			slot->keeper_pid = 0;
	}
	else if (shared->launcher_pid == MyProcPid)
		shared->launcher_pid = 0;
	shared_unlock();
}

static void
reload(void)
{
	ListCell   *cell;

	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);

	/* distlock.worker may be on again. */
	foreach(cell, databases_all())
	{
		Database   *database = lfirst(cell);

		if (database->state == DATABASE_RESTING)
			database_change(database, DATABASE_UNKNOWN);
	}
	look_at = 0;
}

/*
 * Sessions ask for their database: it has the extension now, or its worker is
 * wanted again.  The question is answered by starting a worker, and stands till
 * then: the one that runs or starts now may be about to find no extension.
 */
static void
take_questions(void)
{
	Database   *without_slot;

	shared_lock();
	if (shared->look)
		look_at = 0;
	shared->look = false;
	without_slot = databases_find(shared->asked_without_slot);
	shared->asked_without_slot = InvalidOid;
	shared_unlock();
	if (without_slot != NULL && without_slot->state == DATABASE_ABSENT)
		database_change(without_slot, DATABASE_UNKNOWN);

	for (int i = 0; i < shared->num_slots; i++)
	{
		DatabaseSlot *slot = &shared->slots[i];
		Database   *database = NULL;
		Oid			oid = InvalidOid;

		shared_lock();
		if (OidIsValid(slot->database) && slot->asked &&
			(!OidIsValid(only_database) || slot->database == only_database))
		{
			oid = slot->database;
			database = databases_find(oid);
			if (database == NULL)
				slot->asked = false;
		}
		shared_unlock();
		if (!OidIsValid(oid))
			continue;

		if (database == NULL)
			look_at = 0;
		else if (database->state == DATABASE_ABSENT ||
				 database->state == DATABASE_STOPPED ||
				 database->state == DATABASE_RESTING)
			database_change(database, DATABASE_UNKNOWN);
	}
}

/*
 * Databases that are to be tried again may have been dropped since: if nobody
 * has a lock on one any more, the list shows it.
 */
static void
end_rests(void)
{
	ListCell   *cell;

	foreach(cell, databases_all())
	{
		Database   *database = lfirst(cell);

		if (database->state != DATABASE_RESTING ||
			database->next_at > GetCurrentTimestamp())
			continue;
		if (worker_database_is_wanted(database->oid))
		{
			database_rest(database, RETRY_WANTED);
			continue;
		}
		database_change(database, DATABASE_UNKNOWN);
		look_at = 0;
	}
}

static void
look_at_databases(void)
{
	databases_look(only_database);
	if (OidIsValid(only_database) && databases_all() == NIL)
		proc_exit(0);
	free_unknown_slots();
	look_at = GetCurrentTimestamp() + setting_naptime * USECS_PER_SEC;
}

/*
 * Of databases that are not there any more.  Who asks just now has connected to
 * a database that we have not seen yet.
 */
static void
free_unknown_slots(void)
{
	if (OidIsValid(only_database))
		return;
	for (int i = 0; i < shared->num_slots; i++)
	{
		DatabaseSlot *slot = &shared->slots[i];
		Oid			oid = slot->database;

		if (!OidIsValid(oid) || databases_find(oid) != NULL)
			continue;
		shared_lock();
		if (slot->database == oid && !slot->asked && slot->worker_pid == 0)
			shared_free_slot(slot);
		shared_unlock();
	}
}

/*
 * Not counting those that somebody keeps from starting, by a lock on a catalog
 * of their database for example.
 */
static bool
is_anybody_starting(void)
{
	TimestampTz long_ago = GetCurrentTimestamp() - LONG_START;
	ListCell   *cell;

	foreach(cell, databases_all())
	{
		Database   *database = lfirst(cell);

		if (database->state == DATABASE_STARTING && database->since > long_ago)
			return true;
	}
	return false;
}

static void
advance(Database *database)
{
	switch (database->state)
	{
		case DATABASE_UNKNOWN:
			if (database->eligible)
				begin_to_start(database);
			break;
		case DATABASE_STARTING:
			watch_start(database);
			break;
		case DATABASE_RUNNING:
			watch_run(database);
			break;
		case DATABASE_STOPPED:
			leave_if_not_asked();
			break;
		case DATABASE_ABSENT:
		case DATABASE_RESTING:
			break;
	}
}

/*
 * A keeper whose worker is not wanted goes, unless it is just then.
 */
static void
leave_if_not_asked(void)
{
	DatabaseSlot *slot;
	bool		asked = false;

	if (!OidIsValid(only_database))
		return;
	shared_lock();
	slot = shared_find_slot(only_database);
	if (slot != NULL)
	{
		asked = slot->asked;
		if (!asked && slot->keeper_pid == MyProcPid)
			slot->keeper_pid = 0;
	}
	shared_unlock();
	if (!asked)
		proc_exit(0);
}

/*
 * From UNKNOWN, one at a time.
 */
static void
begin_to_start(Database *database)
{
	DatabaseSlot *slot;
	bool		running = false;
	bool		stopped = false;

	if (!OidIsValid(only_database) && !setting_worker)
	{
		database_rest(database, LONGEST_PAUSE);
		return;
	}
	if (is_anybody_starting())
		return;
	if (worker_database_is_wanted(database->oid))
	{
		database_rest(database, RETRY_WANTED);
		return;
	}

	shared_lock();
	slot = shared_find_slot(database->oid);
	if (slot == NULL)
		slot = shared_make_slot(database->oid, true);
	if (slot != NULL)
	{
		running = slot->worker_pid != 0;
		slot->asked = false;
		stopped = slot->stopped;
		if (!running && !stopped)
			slot->state = WORKER_STARTING;
	}
	shared_unlock();

	/* The one to look with is in use. */
	if (slot == NULL)
	{
		database_rest(database, RETRY_NO_PLACE);
		return;
	}
	if (stopped)
		database_change(database, DATABASE_STOPPED);
	else if (running)
		database_change(database, DATABASE_RUNNING);
	else
	{
		MemoryContext saved = MemoryContextSwitchTo(TopMemoryContext);
		bool		registered;

		FAIL_POINT("launcher_before_start");
		registered = worker_register(database->oid, database->name,
									 &database->handle);
		FAIL_POINT("launcher_registered");
		MemoryContextSwitchTo(saved);
		if (registered)
		{
			no_place_at = 0;
			database_change(database, DATABASE_STARTING);
		}
		else
		{
			database->handle = NULL;
			worker_ended(database, END_NO_PLACE);
		}
	}
}

/*
 * From STARTING.
 */
static void
watch_start(Database *database)
{
	DatabaseSlot *slot;
	WorkerState state = WORKER_ENDED;
	WorkerEnd	end = END_FAILED;
	pid_t		pid;

	shared_lock();
	slot = shared_find_slot(database->oid);
	if (slot != NULL)
	{
		state = slot->state;
		end = slot->end;
	}
	shared_unlock();

	if (state == WORKER_RUNNING)
	{
		no_slot_reported = false;
		database_change(database, DATABASE_RUNNING);
	}
	else if (state == WORKER_ENDED)
		worker_ended(database, end);
	else if (database->handle != NULL ?
			 GetBackgroundWorkerPid(database->handle, &pid) == BGWH_STOPPED :
			 GetCurrentTimestamp() > database->since + LONGEST_START)
	{
		/* It may have got so far as to end by itself, between the two looks. */
		shared_lock();
		if (slot->database == database->oid && slot->state == WORKER_ENDED)
			end = slot->end;
		else
			end = END_FAILED;
		shared_unlock();
		worker_ended(database, end);
	}
}

/*
 * From RUNNING.
 */
static void
watch_run(Database *database)
{
	DatabaseSlot *slot;
	WorkerEnd	end = END_FAILED;
	bool		ended;

	shared_lock();
	slot = shared_find_slot(database->oid);
	ended = slot == NULL || slot->worker_pid == 0;
	if (slot != NULL)
		end = slot->end;
	shared_unlock();
	if (ended)
		worker_ended(database, end);
}

static void
worker_ended(Database *database, WorkerEnd end)
{
	DatabaseSlot *slot;
	bool		asked = false;
	int64		ran = 0;

	if (database->state == DATABASE_RUNNING)
		ran = GetCurrentTimestamp() - database->since;
	if (database->handle != NULL)
		pfree(database->handle);
	database->handle = NULL;

	shared_lock();
	slot = shared_find_slot(database->oid);
	if (slot != NULL)
	{
		if (slot->worker_pid == 0)
		{
			slot->state = WORKER_ENDED;
			slot->end = end;
		}
		asked = slot->asked;
		if ((end == END_NO_EXTENSION && !asked) || end == END_NO_SLOT)
		{
			if (slot->keeper_pid == MyProcPid)
				slot->keeper_pid = 0;
			shared_free_slot(slot);
		}
	}
	shared_unlock();

	switch (end)
	{
		case END_NO_EXTENSION:
			database_change(database, asked ? DATABASE_UNKNOWN : DATABASE_ABSENT);
			if (OidIsValid(only_database) && !asked)
				proc_exit(0);
			break;
		case END_ASKED:
			database_change(database, asked ? DATABASE_UNKNOWN : DATABASE_STOPPED);
			break;
		case END_MADE_WAY:
			database_rest(database, RETRY_WANTED);
			look_at = 0;
			break;
		case END_SWITCHED_OFF:
			/* It may be on again already. */
			database_rest(database, setting_worker ? RETRY_WANTED : LONGEST_PAUSE);
			break;
		case END_NO_PLACE:
			if (is_place_expected())
				database_rest(database, RETRY_WANTED);
			else
			{
				report_no_place();
				database_rest(database, RETRY_NO_PLACE);
			}
			break;
		case END_NO_SLOT:
			report_no_slot();
			database_rest(database, LONGEST_PAUSE);
			break;
		case END_FAILED:
			if (ran >= LONG_ENOUGH || database->pause == 0)
				database->pause = SHORTEST_PAUSE;
			else
				database->pause = Min(2 * database->pause, LONGEST_PAUSE);
			database_rest(database, database->pause);
			/* It may have been dropped under the worker. */
			look_at = 0;
			break;
	}
}

/*
 * No worker could be registered.  Is it too early to say that there are too few
 * places?
 */
static bool
is_place_expected(void)
{
	TimestampTz now = GetCurrentTimestamp();

	/* That was another time, or the clock has been set back. */
	if (now > no_place_at + 2 * RETRY_NO_PLACE || now < no_place_at)
	{
		no_place_since = now;
		no_place_reported = false;
	}
	no_place_at = now;
	return now < no_place_since + PATIENCE_FOR_PLACE;
}

static void
report_no_place(void)
{
	if (!no_place_reported)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("distlock cannot start a worker: too many background worker processes"),
				 errdetail("Locks are not concerned; expired ones are not announced in databases without a worker."),
				 errhint("Increase max_worker_processes: distlock needs one for each database that has the extension, and two more.")));
	no_place_reported = true;
}

static void
report_no_slot(void)
{
	if (!no_slot_reported)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("distlock cannot start a worker: more than %d databases have the extension",
						shared_max_databases()),
				 errdetail("Locks are not concerned; the others have no statistics and no worker."),
				 errhint("Increase distlock.max_databases.")));
	no_slot_reported = true;
}

static void
sleep_until_needed(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = look_at;
	ListCell   *cell;

	foreach(cell, databases_all())
	{
		Database   *database = lfirst(cell);

		if (database->state == DATABASE_RESTING)
			until = Min(until, database->next_at);
		else if (database->state == DATABASE_UNKNOWN && database->eligible &&
				 !is_anybody_starting())
			until = now;
		else if (database->state == DATABASE_STARTING)
			until = Min(until, now + USECS_PER_SEC);
	}
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 TimestampDifferenceMilliseconds(now, until),
					 compat_wait_event_launcher());
}
