/*-------------------------------------------------------------------------
 *
 * shared.c
 *	  Shared memory: what sessions, workers and launchers tell each other.
 *
 * Preloaded, it is asked for at the start of the server.  Otherwise the first
 * who needs it makes it: on PostgreSQL 17 and later as a named segment of
 * dynamic shared memory; before, out of the little that the server has left
 * over, for fewer databases then.
 *
 * The mutex is a spinlock: it is held for a look at the slots' first fields and
 * a few assignments, never when anything is called that could fail.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "settings.h"
#include "shared.h"

#define SHARED_NAME "distlock"

/* Slots, where shared memory is what the server has left over. */
#define SLOTS_LEFT_OVER 4

/* One more, see shared_make_slot(). */
#define SLOTS_TO_LOOK 1

/* When all slots are taken, look that often for one that nobody needs. */
#define LOOK_FOR_DROPPED (10 * USECS_PER_SEC)

static SharedState *state = NULL;
static bool preloaded = false;
static bool attach_failed = false;

/* This database's slot, while it is (see shared_slot_if_attached). */
static DatabaseSlot *my_slot = NULL;

static shmem_request_hook_type previous_shmem_request_hook = NULL;
static shmem_startup_hook_type previous_shmem_startup_hook = NULL;

static void at_shmem_request(void);
static void at_shmem_startup(void);
static void make_in_main_memory(int num_slots);
static void attach(void);
static void initialize(void *memory);
static Size size_for(int num_slots);
static void free_slots_of_dropped(void);

/* What initialize() is to make. */
static int	slots_to_make;

bool
shared_is_preloaded(void)
{
	return preloaded;
}

void
shared_request(void)
{
	preloaded = true;
	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = at_shmem_request;
	previous_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = at_shmem_startup;
}

SharedState *
shared_state(void)
{
	/* A parallel worker cannot: it may not begin a subtransaction. */
	if (state == NULL && !attach_failed && IsTransactionState() &&
		!IsInParallelMode())
		attach();
	return state;
}

DatabaseSlot *
shared_slot(void)
{
	DatabaseSlot *slot = shared_slot_if_attached();
	bool		full = false;
	int			launcher;

	if (slot != NULL || shared_state() == NULL)
		return slot;

	for (int attempt = 0; attempt < 2; attempt++)
	{
		if (full)
			free_slots_of_dropped();
		launcher = -1;
		shared_lock();
		slot = shared_find_slot(MyDatabaseId);
		if (slot == NULL)
		{
			slot = shared_make_slot(MyDatabaseId, false);
			if (slot != NULL)
			{
				slot->asked = true;
				if (state->launcher_pid != 0)
					launcher = state->launcher_proc;
			}
		}
		shared_unlock();
		shared_wake(launcher);
		if (slot != NULL)
			break;
		full = true;
	}
	my_slot = slot;
	return slot;
}

DatabaseSlot *
shared_slot_if_attached(void)
{
	/* The database may have lost its slot, and another have got it. */
	if (my_slot != NULL && my_slot->database == MyDatabaseId &&
		OidIsValid(MyDatabaseId))
		return my_slot;
	return NULL;
}

int
shared_max_databases(void)
{
	return state->num_slots - SLOTS_TO_LOOK;
}

void
shared_lock(void)
{
	SpinLockAcquire(&state->mutex);
}

void
shared_unlock(void)
{
	SpinLockRelease(&state->mutex);
}

DatabaseSlot *
shared_find_slot(Oid database)
{
	for (int i = 0; i < state->num_slots; i++)
	{
		if (state->slots[i].database == database)
			return &state->slots[i];
	}
	return NULL;
}

DatabaseSlot *
shared_make_slot(Oid database, bool to_look)
{
	DatabaseSlot *slot = shared_find_slot(InvalidOid);

	if (slot == NULL)
		return NULL;
	shared_clear_slot(slot);
	slot->database = database;
	if (to_look || shared_has_free_slot())
		return slot;
	slot->database = InvalidOid;
	return NULL;
}

bool
shared_has_free_slot(void)
{
	return shared_find_slot(InvalidOid) != NULL;
}

void
shared_free_slot(DatabaseSlot *slot)
{
	slot->database = InvalidOid;
}

void
shared_clear_slot(DatabaseSlot *slot)
{
	slot->asked = slot->stopped = slot->failing = false;
	slot->check_extension = slot->drop_prepared = false;
	slot->state = WORKER_NONE;
	slot->end = END_FAILED;
	slot->worker_pid = slot->keeper_pid = 0;
	slot->worker_proc = slot->keeper_proc = -1;
	slot->started_at = slot->last_pass_at = slot->last_error_at = 0;
	slot->last_pass_time = slot->longest_step = 0;
	slot->passes = slot->expired = slot->purged = slot->errors = 0;
	slot->last_error[0] = '\0';
	pg_atomic_write_u64(&slot->wake_at, (uint64) DT_NOEND);
	pg_atomic_write_u32(&slot->session_ended, 0);
	pg_atomic_write_u32(&slot->mirror_wanted, 0);
	pg_atomic_write_u32(&slot->mirror_changed, 0);
	pg_atomic_write_u32(&slot->mirror_behind, 0);
	pg_atomic_write_u32(&slot->mirror_prepared, InvalidTransactionId);
	pg_atomic_write_u32(&slot->mirror_gap, 0);
	for (int i = 0; i < DIRTY_WORDS; i++)
	{
		pg_atomic_write_u32(&slot->dirty[i], 0);
		pg_atomic_write_u32(&slot->mirror_dirty[i], 0);
	}
	slot->num_mirrors = 0;
	slot->check = 0;

	slot->stats_since = GetCurrentTimestamp();
	for (int i = 0; i < NUM_COUNTERS; i++)
		pg_atomic_write_u64(&slot->counters[i], 0);
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
	{
		pg_atomic_write_u64(&slot->wait_histogram[i], 0);
		pg_atomic_write_u64(&slot->hold_histogram[i], 0);
	}
	memset(slot->busiest, 0, sizeof(slot->busiest));
}

void
shared_wake(int proc)
{
	if (proc >= 0 && proc < (int) ProcGlobal->allProcCount)
		SetLatch(&GetPGProcByNumber(proc)->procLatch);
}

void
shared_wake_launcher(DatabaseSlot *slot)
{
	int			keeper;
	int			launcher;

	shared_lock();
	keeper = slot->keeper_pid != 0 ? slot->keeper_proc : -1;
	launcher = state->launcher_pid != 0 ? state->launcher_proc : -1;
	shared_unlock();
	shared_wake(keeper);
	shared_wake(launcher);
}

/*
 * This and the next are called after commits: nothing in them can fail.
 */
void
shared_check_extension(bool from_now_on)
{
	DatabaseSlot *slot;
	int			worker = -1;

	if (state == NULL)
		return;
	shared_lock();
	slot = shared_find_slot(MyDatabaseId);
	if (slot != NULL)
	{
		if (from_now_on)
			slot->drop_prepared = true;
		else
			slot->check_extension = true;
		if (slot->worker_pid != 0)
			worker = slot->worker_proc;
	}
	shared_unlock();
	shared_wake(worker);
}

void
shared_ask_launcher(void)
{
	DatabaseSlot *slot;
	int			keeper = -1;
	int			launcher = -1;

	if (state == NULL)
		return;
	shared_lock();
	slot = shared_find_slot(MyDatabaseId);
	if (slot == NULL)
		slot = shared_make_slot(MyDatabaseId, false);
	if (slot != NULL)
	{
		slot->asked = true;
		if (slot->keeper_pid != 0)
			keeper = slot->keeper_proc;
	}
	else
		state->asked_without_slot = MyDatabaseId;
	if (state->launcher_pid != 0)
		launcher = state->launcher_proc;
	shared_unlock();
	my_slot = slot;
	shared_wake(keeper);
	shared_wake(launcher);
}

void
shared_ask_launcher_to_look(void)
{
	int			launcher;

	if (state == NULL)
		return;
	shared_lock();
	state->look = true;
	launcher = state->launcher_pid != 0 ? state->launcher_proc : -1;
	shared_unlock();
	shared_wake(launcher);
}

static void
at_shmem_request(void)
{
	if (previous_shmem_request_hook)
		previous_shmem_request_hook();
	RequestAddinShmemSpace(size_for(setting_max_databases));
}

static void
at_shmem_startup(void)
{
	if (previous_shmem_startup_hook)
		previous_shmem_startup_hook();
	state = NULL;
	make_in_main_memory(setting_max_databases);
}

static void
make_in_main_memory(int num_slots)
{
	bool		found;
	void	   *memory;

	slots_to_make = num_slots;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	memory = ShmemInitStruct(SHARED_NAME, size_for(num_slots), &found);
	if (!found)
		initialize(memory);
	LWLockRelease(AddinShmemInitLock);
	state = memory;
}

/*
 * In a subtransaction, because a lock function shall not fail for this.
 */
static void
attach(void)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	attach_failed = true;
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		bool		found;
		void	   *memory;

		slots_to_make = setting_max_databases;
		memory = compat_named_memory(SHARED_NAME, size_for(slots_to_make),
									 initialize, &found);
		if (memory != NULL)
			state = memory;
		else
			make_in_main_memory(SLOTS_LEFT_OVER);
		ReleaseCurrentSubTransaction();
		attach_failed = false;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		state = NULL;
		ereport(DEBUG1,
				(errmsg_internal("distlock has no shared memory: %s",
								 error->message)));
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}

static void
initialize(void *memory)
{
	SharedState *new_state = memory;

	SpinLockInit(&new_state->mutex);
	new_state->launcher_pid = 0;
	new_state->launcher_proc = -1;
	new_state->look = false;
	new_state->asked_without_slot = InvalidOid;
	new_state->num_slots = slots_to_make + SLOTS_TO_LOOK;
	for (int i = 0; i < new_state->num_slots; i++)
	{
		DatabaseSlot *slot = &new_state->slots[i];

		slot->database = InvalidOid;
		pg_atomic_init_u64(&slot->wake_at, (uint64) DT_NOEND);
		pg_atomic_init_u32(&slot->session_ended, 0);
		pg_atomic_init_u32(&slot->mirror_wanted, 0);
		pg_atomic_init_u32(&slot->mirror_changed, 0);
		pg_atomic_init_u32(&slot->mirror_behind, 0);
		pg_atomic_init_u32(&slot->mirror_prepared, InvalidTransactionId);
		pg_atomic_init_u32(&slot->mirror_gap, 0);
		for (int j = 0; j < DIRTY_WORDS; j++)
		{
			pg_atomic_init_u32(&slot->dirty[j], 0);
			pg_atomic_init_u32(&slot->mirror_dirty[j], 0);
		}
		for (int j = 0; j < NUM_COUNTERS; j++)
			pg_atomic_init_u64(&slot->counters[j], 0);
		for (int j = 0; j < HISTOGRAM_BUCKETS; j++)
		{
			pg_atomic_init_u64(&slot->wait_histogram[j], 0);
			pg_atomic_init_u64(&slot->hold_histogram[j], 0);
		}
		pg_atomic_init_flag(&slot->busiest_in_use);
		shared_clear_slot(slot);
	}
}

static Size
size_for(int num_slots)
{
	return offsetof(SharedState, slots) +
		(num_slots + SLOTS_TO_LOOK) * sizeof(DatabaseSlot);
}

/*
 * Without a launcher, nobody else does it.
 */
static void
free_slots_of_dropped(void)
{
	static TimestampTz last_time = 0;
	TimestampTz now = GetCurrentTimestamp();

	/* It is asked for by each call, as long as there is no slot. */
	if (now < last_time + LOOK_FOR_DROPPED)
		return;
	last_time = now;
	for (int i = 0; i < state->num_slots; i++)
	{
		DatabaseSlot *slot = &state->slots[i];
		Oid			database = slot->database;
		char	   *name;

		if (!OidIsValid(database))
			continue;
		name = get_database_name(database);
		if (name != NULL)
		{
			pfree(name);
			continue;
		}
		shared_lock();
		if (slot->database == database && slot->worker_pid == 0)
			shared_free_slot(slot);
		shared_unlock();
	}
}
