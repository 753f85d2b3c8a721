/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The worker of a database.  See README.worker.md.
 *
 * It sleeps until the schedule has something for it, in a pass does what there
 * is to do (pass.c), and leaves when it should.  An error in a step is reported
 * once, and tried again after a while; it ends neither the worker nor its work
 * on other pages.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "fail_point.h"
#include "lock_table.h"
#include "mirrors.h"
#include "pass.h"
#include "relations.h"
#include "schedule.h"
#include "settings.h"
#include "shared.h"
#include "worker.h"

/*
 * Somebody who wants to drop, rename or copy the database waits for us, and
 * nobody says so: we look that often.  PostgreSQL gives up after 5 s.
 */
#define LOOK_AROUND_MS 250

/*
 * Where distlock is not preloaded, the end of the extension is not told either,
 * and where it is, not by COMMIT PREPARED; it takes a transaction to see it.
 */
#define LOOK_FOR_EXTENSION (5 * USECS_PER_SEC)
#define LOOK_FOR_EXTENSION_PRELOADED (60 * USECS_PER_SEC)

/* How long a session that drops a database waits for the worker to leave. */
#define SEND_AWAY_MS 1000

/* After an error: so long, then twice as long, and so on. */
#define SHORTEST_PAUSE USECS_PER_SEC
#define LONGEST_PAUSE (60 * USECS_PER_SEC)

static DatabaseSlot *slot = NULL;
static WorkerEnd reason = END_FAILED;
static char database_name[NAMEDATALEN];

/* Of the error that was reported last. */
static int	reported_code = 0;
static int64 pause_time = 0;
static TimestampTz paused_until = 0;

/* What this transaction has done. */
static bool extension_created = false;
static bool extension_dropped = false;
static bool database_changed = false;

static void enter(Oid database);
static void at_exit(int code, Datum arg);
pg_noreturn static void leave(WorkerEnd why);
static void look_around(void);
static void look_for_extension(void);
static bool extension_is_there(void);
static bool is_time_to_work(void);
static void work(void);
static bool work_on_mirrors(void);
static void handle_error(void);
static ErrorData *end_failed(void);
static void note_failure(int code, const char *message);
static void note_success(void);
static void rest(void);

bool
worker_register(Oid database, const char *name,
				BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {0};

	snprintf(worker.bgw_name, BGW_MAXLEN, "distlock worker for database %s",
			 name);
	strlcpy(worker.bgw_type, "distlock worker", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "distlock",
			sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "distlock_worker_main",
			sizeof(worker.bgw_function_name));
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

void
distlock_worker_main(Datum database)
{
	pqsignal(SIGTERM, die);
	/* There is nothing to cancel yet. */
	pqsignal(SIGINT, SIG_IGN);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database),
											  InvalidOid, 0);
	worker_fix_settings();
	enter(DatumGetObjectId(database));

	/*
	 * Our settings are the postmaster's, which may be older than the
	 * launcher's.
	 */
	if (!setting_worker)
		ConfigReloadPending = true;
	/* This is how lock_timeout comes, too. */
	pqsignal(SIGINT, StatementCancelHandler);

	for (;;)
	{
		bool		more;

		ResetLatch(MyLatch);
		/* There is nothing to cancel between two steps. */
		QueryCancelPending = false;
		CHECK_FOR_INTERRUPTS();
		look_around();
		more = work_on_mirrors();
		if (is_time_to_work())
			work();
		else if (!more)
			rest();
	}
}

/*
 * Nothing that is set for the database, by its owner for one, may have a say in
 * what we do.
 */
void
worker_fix_settings(void)
{
	static const char *const settings[][2] = {
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"exit_on_error", "off"},
		{"lock_timeout", "1s"}, /* of the lock that NOTIFY takes */
		{"search_path", "pg_catalog"},
		{"statement_timeout", "0"},
		{"synchronous_commit", "off"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
						PGC_S_OVERRIDE);
	compat_no_transaction_timeout();
	SetConfigOption("application_name", MyBgworkerEntry->bgw_name, PGC_USERSET,
					PGC_S_OVERRIDE);
}

/*
 * A lock on the database, in the mode of one who connects, can be had at once
 * unless somebody drops, renames or copies it.  It needs no transaction.
 */
bool
worker_database_is_wanted(Oid database)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database, 0);
	if (LockAcquire(&tag, RowExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	LockRelease(&tag, RowExclusiveLock, true);
	return false;
}

void
worker_extension_created(void)
{
	(void) shared_state();
	extension_created = true;
}

void
worker_extension_dropped(void)
{
	(void) shared_state();
	extension_dropped = true;
}

void
worker_database_changed(void)
{
	(void) shared_state();
	database_changed = true;
}

/*
 * The worker would find out by itself, but a bit late for DROP DATABASE WITH
 * (FORCE), which wants the right to terminate whoever is there.
 */
void
worker_send_away(Oid database)
{
	int			pid = 0;

	if (shared_state() == NULL)
		return;
	for (int i = 0; i < SEND_AWAY_MS; i++)
	{
		DatabaseSlot *found;
		int			proc = -1;

		shared_lock();
		found = shared_find_slot(database);
		if (found != NULL && found->worker_pid != 0)
		{
			pid = found->worker_pid;
			proc = found->worker_proc;
		}
		shared_unlock();

		/* Its slot is the first that it leaves, and not the last. */
		if (pid == 0 || BackendPidGetProc(pid) == NULL)
			break;
		shared_wake(proc);
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000);
	}
}

/*
 * After the commit: nothing here can fail.  Others are told when the catalogs'
 * changes have been, or else they would look too early.
 */
void
worker_at_locks_released(void)
{
	if (extension_dropped)
		shared_check_extension(false);
	if (extension_created)
		shared_ask_launcher();
	if (database_changed)
		shared_ask_launcher_to_look();
	worker_at_abort();
}

/*
 * Nobody will say when the prepared transaction commits.
 */
void
worker_at_prepare(void)
{
	if (extension_dropped)
		shared_check_extension(true);
}

/*
 * Or at the end of a commit.
 */
void
worker_at_abort(void)
{
	extension_dropped = extension_created = database_changed = false;
}

/*
 * From STARTING to RUNNING.
 */
static void
enter(Oid database)
{
	bool		other;
	bool		there;
	bool		no_slot;
	char	   *name;

	StartTransactionCommand();
	name = get_database_name(database);
	strlcpy(database_name, name ? name : "?", NAMEDATALEN);
	there = shared_state() != NULL && extension_is_there();
	CommitTransactionCommand();
	if (shared_state() == NULL)
		proc_exit(1);

	shared_lock();
	slot = shared_find_slot(database);
	other = slot == NULL || slot->worker_pid != 0;
	if (!other)
	{
		slot->worker_pid = MyProcPid;
		slot->worker_proc = compat_my_proc();
		slot->check_extension = slot->drop_prepared = false;
	}
	no_slot = !shared_has_free_slot();
	shared_unlock();

	/* Somebody else is at it, or nobody wants it any more. */
	if (other)
		proc_exit(0);
	before_shmem_exit(at_exit, (Datum) 0);
	if (!there)
		leave(END_NO_EXTENSION);
	if (no_slot)
		leave(END_NO_SLOT);

	/* For what it writes itself. */
	StartTransactionCommand();
	(void) shared_slot();
	CommitTransactionCommand();

	FAIL_POINT("worker_entering");
	slot->failing = false;
	slot->started_at = GetCurrentTimestamp();
	slot->last_pass_at = 0;
	pass_begin(slot);
	mirrors_begin(slot, database_name);
	shared_lock();
	slot->state = WORKER_RUNNING;
	shared_unlock();
	shared_wake_launcher(slot);
	pgstat_report_activity(STATE_IDLE, "");
	ereport(LOG,
			(errmsg("distlock worker for database \"%s\" started",
					database_name)));
}

/*
 * However it ends, but for a crash of the whole server.
 */
static void
at_exit(int code, Datum arg)
{
	mirrors_end();
	shared_lock();
	if (slot->worker_pid == MyProcPid)
	{
		slot->worker_pid = 0;
		slot->worker_proc = -1;
		slot->state = WORKER_ENDED;
		slot->end = reason;
	}
	shared_unlock();
	shared_wake_launcher(slot);
}

static void
leave(WorkerEnd why)
{
	static const char *const reasons[] = {
		[END_FAILED] = "it failed",
		[END_NO_EXTENSION] = "the extension is not there any more",
		[END_MADE_WAY] = "the database is to be dropped, altered or copied",
		[END_ASKED] = "it was asked to",
		[END_SWITCHED_OFF] = "distlock.worker is off",
		[END_NO_PLACE] = "there is no place for it",
		[END_NO_SLOT] = "there is no slot for its database",
	};

	reason = why;
	if (slot->state == WORKER_RUNNING)
		ereport(LOG,
				(errmsg("distlock worker for database \"%s\" ended",
						database_name),
				 errdetail("Reason: %s.", reasons[why])));
	proc_exit(0);
}

/*
 * Is there a reason to leave, or to look at everything anew?
 */
static void
look_around(void)
{
	if (slot->stopped)
		leave(END_ASKED);
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		schedule_all();
		mirrors_reload();
	}
	if (shared_is_preloaded() && !setting_worker)
		leave(END_SWITCHED_OFF);
	if (worker_database_is_wanted(MyDatabaseId))
		leave(END_MADE_WAY);
	look_for_extension();
}

static void
look_for_extension(void)
{
	static TimestampTz last_look = 0;
	int64		interval = LOOK_FOR_EXTENSION;
	bool		there;

	if (shared_is_preloaded() && !slot->drop_prepared)
		interval = LOOK_FOR_EXTENSION_PRELOADED;
	if (last_look == 0)
		last_look = slot->started_at;
	if (!slot->check_extension &&
		GetCurrentTimestamp() < last_look + interval)
		return;
	slot->check_extension = false;
	StartTransactionCommand();
	there = extension_is_there();
	CommitTransactionCommand();
	last_look = GetCurrentTimestamp();
	if (!there)
		leave(END_NO_EXTENSION);
}

/*
 * In a transaction, whose beginning has told of what others have changed.
 */
static bool
extension_is_there(void)
{
	return OidIsValid(relations_find(REL_LOCK));
}

static bool
is_time_to_work(void)
{
	TimestampTz now = GetCurrentTimestamp();

	return paused_until <= now &&
		(pass_is_under_way() || schedule_wake_at() <= now);
}

/*
 * A step, and an error of it.
 */
static void
work(void)
{
	MemoryContext context = CurrentMemoryContext;
	volatile StepResult result = STEP_DONE;

	pgstat_report_activity(STATE_RUNNING, "distlock: ending what has lapsed");
	PG_TRY();
	{
		result = pass_step();
		if (result == STEP_TABLE_UNFIT)
			lock_table_error_unfit();
		if (result == STEP_MORE || result == STEP_DONE)
			note_success();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		handle_error();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);

	if (result == STEP_NO_EXTENSION)
		leave(END_NO_EXTENSION);
	if (result != STEP_MORE)
	{
		/* Autovacuum has to know what was deleted. */
		(void) pgstat_report_stat(true);
		pgstat_report_activity(STATE_IDLE, "");
	}
}

/*
 * Errors here are not expected: what Redis does is none.
 */
static bool
work_on_mirrors(void)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool more = false;

	PG_TRY();
	{
		more = mirrors_work();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		HOLD_INTERRUPTS();
		error = end_failed();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			mirrors_cancelled();
		else
			mirrors_failed(error->message);
		FreeErrorData(error);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return more;
}

static void
handle_error(void)
{
	ErrorData  *error;

	HOLD_INTERRUPTS();
	error = end_failed();
	pass_failed();
	note_failure(error->sqlerrcode, error->message);
	FreeErrorData(error);
	RESUME_INTERRUPTS();
}

/*
 * Report the error, unless that was done the last time, and end the transaction.
 */
static ErrorData *
end_failed(void)
{
	ErrorData  *error = CopyErrorData();

	if (!slot->failing || error->sqlerrcode != reported_code)
		EmitErrorReport();
	FlushErrorState();
	AbortCurrentTransaction();
	LWLockReleaseAll();
	return error;
}

static void
note_failure(int code, const char *message)
{
	TimestampTz now = GetCurrentTimestamp();
	int			length;

	slot->failing = true;
	slot->errors++;
	slot->last_error_at = now;
	length = pg_mbcliplen(message, strlen(message), LAST_ERROR_SIZE - 1);
	memcpy(slot->last_error, message, length);
	slot->last_error[length] = '\0';
	reported_code = code;
	pause_time = Min(Max(SHORTEST_PAUSE, 2 * pause_time), LONGEST_PAUSE);
	paused_until = now + pause_time;
}

static void
note_success(void)
{
	pause_time = 0;
	if (!slot->failing || schedule_any_failed())
		return;
	slot->failing = false;
	ereport(LOG, (errmsg("distlock worker for database \"%s\" is at work again",
						 database_name)));
}

static void
rest(void)
{
	TimestampTz until = Max(schedule_wake_at(), paused_until);
	long		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

	ms = Min(ms, LOOK_AROUND_MS);
	if (!mirrors_wait(ms))
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
						 compat_wait_event_worker());
}
