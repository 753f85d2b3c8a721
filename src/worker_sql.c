/*-------------------------------------------------------------------------
 *
 * worker_sql.c
 *	  SQL functions to start, stop and see the workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "errors.h"
#include "launcher.h"
#include "settings.h"
#include "shared.h"

/* How long to wait for a worker to start or to end. */
#define PATIENCE (10 * USECS_PER_SEC)
#define LOOK_EVERY_MS 10

DISTLOCK_FUNCTION(distlock_start_worker);
DISTLOCK_FUNCTION(distlock_stop_worker);
DISTLOCK_FUNCTION(distlock_read_worker_status);

static DatabaseSlot *require_slot(void);
static void wait_for_start(DatabaseSlot *slot);
static void pause_a_little(void);
pg_noreturn static void error_no_place(void);
static const char *state_name(const DatabaseSlot *slot);
static void put_status(ReturnSetInfo *result, const DatabaseSlot *slot,
					   bool with_error);

Datum
distlock_start_worker(PG_FUNCTION_ARGS)
{
	DatabaseSlot *slot;
	bool		running;
	bool		keeper;

	error_if_in_recovery("start_worker()");
	if (IsBinaryUpgrade || !IsUnderPostmaster || (shared_is_preloaded() && !setting_worker))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("workers are switched off on this server"),
				 IsUnderPostmaster && !IsBinaryUpgrade ?
				 errhint("Set distlock.worker to on.") : 0));

	slot = require_slot();
	shared_lock();
	running = slot->worker_pid != 0 && slot->state == WORKER_RUNNING &&
		!slot->stopped;
	slot->stopped = false;
	slot->asked = slot->asked || !running;
	if (!running && slot->worker_pid == 0)
		slot->state = WORKER_NONE;
	keeper = slot->keeper_pid != 0;
	shared_unlock();
	if (running)
		PG_RETURN_BOOL(false);

	if (!shared_is_preloaded() && !keeper)
	{
		TimestampTz until = GetCurrentTimestamp() + PATIENCE_FOR_PLACE;

		while (!launcher_register_keeper(MyDatabaseId))
		{
			if (GetCurrentTimestamp() > until)
				error_no_place();
			pause_a_little();
		}
	}
	shared_ask_launcher();
	wait_for_start(slot);
	PG_RETURN_BOOL(true);
}

Datum
distlock_stop_worker(PG_FUNCTION_ARGS)
{
	DatabaseSlot *slot;
	TimestampTz until = GetCurrentTimestamp() + PATIENCE;
	bool		was_there;

	error_if_in_recovery("stop_worker()");
	slot = require_slot();
	shared_lock();
	was_there = slot->worker_pid != 0;
	slot->stopped = true;
	shared_unlock();

	shared_wake(slot->worker_proc);
	while (slot->database == MyDatabaseId &&
		   (slot->worker_pid != 0 || slot->keeper_pid != 0))
	{
		shared_wake_launcher(slot);
		pause_a_little();
		if (GetCurrentTimestamp() > until)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the worker of this database has not ended within 10 s"),
					 errhint("It will, when it has done its work; see the view distlock.worker_status.")));
	}
	PG_RETURN_BOOL(was_there);
}

Datum
distlock_read_worker_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	SharedState *shared = shared_state();
	bool		all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	bool		own_seen = false;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; shared != NULL && i < shared->num_slots; i++)
	{
		DatabaseSlot slot;

		/* A copy, all of one moment as far as the mutex goes. */
		shared_lock();
		memcpy(&slot, &shared->slots[i], offsetof(DatabaseSlot, dirty));
		shared_unlock();
		if (!OidIsValid(slot.database) ||
			(!all && slot.database != MyDatabaseId))
			continue;
		own_seen = own_seen || slot.database == MyDatabaseId;
		put_status(result, &slot, all);
	}
	if (!own_seen)
	{
		DatabaseSlot slot = {0};

		slot.database = MyDatabaseId;
		put_status(result, &slot, all);
	}
	return (Datum) 0;
}

static DatabaseSlot *
require_slot(void)
{
	DatabaseSlot *slot = shared_slot();

	if (slot != NULL)
		return slot;
	if (shared_state() == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("there is no shared memory left for a worker"),
				 errhint("Add distlock to shared_preload_libraries, and restart the server.")));
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("%d databases have workers or statistics of distlock already",
					shared_max_databases()),
			 shared_is_preloaded() ?
			 errhint("Increase distlock.max_databases, and restart the server.") :
			 errhint("Add distlock to shared_preload_libraries, and restart the server.")));
}

/*
 * Whoever is asked may find that there is no place, or no extension: that of a
 * transaction that has not committed yet cannot be seen.
 */
static void
wait_for_start(DatabaseSlot *slot)
{
	TimestampTz until = GetCurrentTimestamp() + PATIENCE;

	for (;;)
	{
		WorkerState state;
		WorkerEnd	end;
		bool		ours;
		bool		stopped;

		shared_lock();
		ours = slot->database == MyDatabaseId;
		state = slot->state;
		end = slot->end;
		stopped = slot->stopped;
		shared_unlock();

		if (ours && state == WORKER_RUNNING)
			return;
		if (!ours || (state == WORKER_ENDED && end == END_NO_EXTENSION))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the worker of this database has found no extension \"distlock\""),
					 errhint("Start it in another transaction than the one that creates the extension.")));
		if (state == WORKER_ENDED && end == END_NO_PLACE)
		{
			if (GetCurrentTimestamp() > until - PATIENCE + PATIENCE_FOR_PLACE)
				error_no_place();
			shared_ask_launcher();
		}
		if (stopped)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the worker of this database has been stopped while it was started"),
					 errdetail("Another session has called stop_worker().")));
		if (GetCurrentTimestamp() > until)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the worker of this database has not started within 10 s"),
					 errhint("See the view distlock.worker_status and the server's log; it is tried again.")));
		pause_a_little();
	}
}

static void
pause_a_little(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 LOOK_EVERY_MS, compat_wait_event_acquire());
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static void
error_no_place(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("too many background worker processes"),
			 errhint("Increase max_worker_processes, and restart the server.")));
}

static const char *
state_name(const DatabaseSlot *slot)
{
	if (slot->worker_pid != 0 && slot->state == WORKER_RUNNING)
		return slot->failing ? "failed" : "running";
	if (slot->stopped)
		return "stopped";
	if (slot->worker_pid != 0 || slot->state == WORKER_STARTING)
		return "starting";
	if (slot->state == WORKER_ENDED)
	{
		if (slot->end == END_FAILED || slot->end == END_NO_PLACE ||
			slot->end == END_NO_SLOT)
			return "failed";
		if (slot->end == END_MADE_WAY)
			return "starting";
	}
	return "off";
}

static void
put_status(ReturnSetInfo *result, const DatabaseSlot *slot, bool with_error)
{
	Datum		values[14];
	bool		isnull[14] = {false};
	bool		up = slot->worker_pid != 0 && slot->state == WORKER_RUNNING;
	TimestampTz wake_at;

	wake_at = up ?
		(TimestampTz) pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &slot->wake_at)) :
		DT_NOEND;

	values[0] = ObjectIdGetDatum(slot->database);
	values[1] = CStringGetTextDatum(state_name(slot));
	values[2] = Int32GetDatum(slot->worker_pid);
	isnull[2] = !up;
	values[3] = TimestampTzGetDatum(slot->started_at);
	isnull[3] = !up;
	values[4] = TimestampTzGetDatum(slot->last_pass_at);
	isnull[4] = slot->last_pass_at == 0;
	values[5] = Float8GetDatum(slot->last_pass_time / 1000.0);
	isnull[5] = isnull[4];
	values[6] = Float8GetDatum(slot->longest_step / 1000.0);
	isnull[6] = isnull[4];
	values[7] = TimestampTzGetDatum(wake_at);
	isnull[7] = wake_at == DT_NOEND;
	values[8] = Int64GetDatum(slot->passes);
	values[9] = Int64GetDatum(slot->expired);
	values[10] = Int64GetDatum(slot->purged);
	values[11] = Int64GetDatum(slot->errors);
	values[12] = with_error && slot->last_error_at != 0 ?
		CStringGetTextDatum(slot->last_error) : (Datum) 0;
	isnull[12] = !with_error || slot->last_error_at == 0;
	values[13] = TimestampTzGetDatum(slot->last_error_at);
	isnull[13] = slot->last_error_at == 0;
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}
