/*-------------------------------------------------------------------------
 *
 * shared.h
 *	  Shared memory: what sessions, workers and launchers tell each other.
 *
 * A slot for each database that has the extension.  It is a fixed number of
 * slots, of numbers only: no pointers, nothing that has to be cleaned up after
 * a crash.  With distlock preloaded it is made at the start of the server;
 * without, by whoever needs it first.  When there is none to be had, locks work
 * as ever, but there are no statistics and no worker.
 *
 * Who writes what: which database has a slot, and what concerns the life of
 * processes, under the mutex (shared_lock); everything else is atomic, or
 * written by the database's worker alone and shown to people.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_SHARED_H
#define DISTLOCK_SHARED_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/block.h"
#include "storage/dsm.h"
#include "storage/spin.h"

#include "compat.h"
#include "distlock.h"

/* See README.worker.md. */
typedef enum WorkerState
{
	WORKER_NONE,
	WORKER_STARTING,
	WORKER_RUNNING,
	WORKER_ENDED
} WorkerState;

typedef enum WorkerEnd
{
	END_FAILED,					/* also: terminated */
	END_NO_EXTENSION,
	END_MADE_WAY,
	END_ASKED,
	END_SWITCHED_OFF,
	END_NO_PLACE,				/* the server has no place for a process */
	END_NO_SLOT					/* more databases than slots */
} WorkerEnd;

/* A histogram has buckets for times below 1, 2, 4, ... microseconds. */
#define HISTOGRAM_BUCKETS 40

/* The keys with most calls; others may take the place of the least of them. */
#define BUSIEST_KEYS 20

typedef struct KeyStats
{
	uint64		key_hash;
	uint64		calls;			/* grants and refusals; too many by at most
								 * "inherited" */
	uint64		inherited;		/* what it began with: see stats.c */
	uint64		grants;
	uint64		refusals;
	uint64		waits;
	uint64		wait_time;		/* microseconds */
} KeyStats;

typedef enum StatsCounter
{
	COUNT_GRANTS,
	COUNT_REFUSALS,
	COUNT_RELEASES,
	COUNT_EXTENSIONS,
	COUNT_EXPIRIES,
	COUNT_TAKE_OVERS,
	COUNT_WAITS,
	COUNT_WAIT_TIME,			/* microseconds */
	COUNT_HOLD_TIME,			/* microseconds */
	COUNT_EVENTS,
	COUNT_EVENTS_LOST
} StatsCounter;

#define NUM_COUNTERS (COUNT_EVENTS_LOST + 1)

/* Pages of the lock table that have changed: a bit for each, modulo so many. */
#define DIRTY_BITS 8192
#define DIRTY_WORDS (DIRTY_BITS / 32)

#define LAST_ERROR_SIZE 128

/* Where a mirror is, for people; see README.mirror.md for the states. */
typedef enum MirrorState
{
	MIRROR_DISCONNECTED,
	MIRROR_CONNECTING,
	MIRROR_RECONCILING,
	MIRROR_FAILING,
	MIRROR_CONNECTED
} MirrorState;

typedef struct MirrorStatus
{
	char		name[MIRROR_NAME_SIZE];
	MirrorState state;
	TimestampTz since;			/* of the state */
	TimestampTz behind_since;	/* when it had everything last; 0: it has */
	TimestampTz reconciled_at;	/* 0: never */
	int64		keys;			/* in Redis */
	int64		conflicts;		/* locks that meet another program's value */
	int64		connections;
	int64		errors;
	TimestampTz last_error_at;	/* 0: never */
	char		last_error[LAST_ERROR_SIZE];
} MirrorStatus;

typedef struct DatabaseSlot
{
	/* Under the mutex. */
	Oid			database;		/* InvalidOid: free */
	bool		asked;			/* a launcher is to look at the database */
	bool		stopped;		/* stop_worker(): no worker is wanted */
	bool		check_extension;	/* worker: see if there still is one */
	bool		drop_prepared;	/* it may go without anybody's telling */
	WorkerState state;
	WorkerEnd	end;			/* of WORKER_ENDED */
	int			worker_pid;		/* 0: none */
	int			worker_proc;	/* its place among all processes */
	int			keeper_pid;		/* launcher of this database alone; 0: none */
	int			keeper_proc;

	/* Written by the worker alone. */
	bool		failing;		/* it runs, but cannot do its work */
	TimestampTz started_at;
	TimestampTz last_pass_at;
	int64		last_pass_time; /* microseconds */
	int64		longest_step;	/* microseconds */
	int64		passes;
	int64		expired;		/* leases announced and freed */
	int64		purged;			/* free rows deleted */
	int64		errors;
	TimestampTz last_error_at;
	char		last_error[LAST_ERROR_SIZE];
	int			num_mirrors;
	MirrorStatus mirrors[MAX_MIRRORS];

	/* Under the mutex: who asks the worker for a check of the mirrors. */
	dsm_handle	check;			/* the queue of the answer; 0: nobody asks */

	/* When the worker has something to do next; see schedule.c. */
	pg_atomic_uint64 wake_at;
	pg_atomic_uint32 session_ended;
	pg_atomic_uint32 dirty[DIRTY_WORDS];

	/* What it has to mirror; see mirror_marks.c. */
	pg_atomic_uint32 mirror_wanted;
	pg_atomic_uint32 mirror_changed;
	pg_atomic_uint32 mirror_behind;
	pg_atomic_uint32 mirror_prepared;	/* a TransactionId */
	pg_atomic_uint32 mirror_gap;
	pg_atomic_uint32 mirror_dirty[DIRTY_WORDS];

	/* Statistics; see stats.c. */
	TimestampTz stats_since;
	pg_atomic_uint64 counters[NUM_COUNTERS];
	pg_atomic_uint64 wait_histogram[HISTOGRAM_BUCKETS];
	pg_atomic_uint64 hold_histogram[HISTOGRAM_BUCKETS];
	pg_atomic_flag busiest_in_use;	/* a lock that nobody waits for */
	KeyStats	busiest[BUSIEST_KEYS];
} DatabaseSlot;

typedef struct SharedState
{
	slock_t		mutex;
	int			launcher_pid;	/* of the whole server; 0: none */
	int			launcher_proc;
	bool		look;			/* launcher: there are other databases now */
	Oid			asked_without_slot; /* by a database that got none */
	int			num_slots;
	DatabaseSlot slots[FLEXIBLE_ARRAY_MEMBER];
} SharedState;

/* Is distlock in shared_preload_libraries? */
extern bool shared_is_preloaded(void);

/* Call from _PG_init while the server starts. */
extern void shared_request(void);

/*
 * The shared state; NULL when there is none to be had.  Call it in a
 * transaction the first time.
 */
extern SharedState *shared_state(void);

/*
 * The slot of this database, which is given one if it has none; NULL when there
 * is none to be had.  The same rule.
 */
extern DatabaseSlot *shared_slot(void);

/* The same without attaching or allocating anything: fit for any moment. */
extern DatabaseSlot *shared_slot_if_attached(void);

/* How many databases can have a slot for good. */
extern int	shared_max_databases(void);

extern void shared_lock(void);
extern void shared_unlock(void);

/*
 * Under the mutex: the database's slot, NULL when it has none; a new one, NULL
 * when there are no more.  The last one is for the launcher alone, to look at a
 * database with: a worker there finds that no other is free, and leaves.
 */
extern DatabaseSlot *shared_find_slot(Oid database);
extern DatabaseSlot *shared_make_slot(Oid database, bool to_look);
extern bool shared_has_free_slot(void);
extern void shared_free_slot(DatabaseSlot *slot);
extern void shared_clear_slot(DatabaseSlot *slot);

/* Wake a process by its place; a wrong one is woken for nothing. */
extern void shared_wake(int proc);

/* Wake whoever launches workers for the slot's database. */
extern void shared_wake_launcher(DatabaseSlot *slot);

/*
 * Have the worker of this database see if there still is an extension: now, or
 * from now on now and then.
 */
extern void shared_check_extension(bool from_now_on);

/* Ask the launcher to look at this database; not before shared_state(). */
extern void shared_ask_launcher(void);

/* Ask it to look at the list of databases. */
extern void shared_ask_launcher_to_look(void);

#endif							/* DISTLOCK_SHARED_H */
