/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  What differs between PostgreSQL 15, 16, 17 and 18.
 *
 * Every test of the server's version is in this file; all others call the
 * small wrappers given here.  Include it after postgres.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_COMPAT_H
#define DISTLOCK_COMPAT_H

#include "access/genam.h"
#include "access/tableam.h"
#include "commands/async.h"
#include "fmgr.h"
#if PG_VERSION_NUM >= 170000
#include "storage/dsm_registry.h"
#endif
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#if PG_VERSION_NUM < 150000
#error "distlock needs PostgreSQL 15 or later"
#endif

/* What tells the server which library this is. */
#ifdef PG_MODULE_MAGIC_EXT
#define DISTLOCK_MODULE_MAGIC \
	PG_MODULE_MAGIC_EXT(.name = "distlock", .version = "1.0")
#else
#define DISTLOCK_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* Before a function that does not return; PostgreSQL 18 has it. */
#ifndef pg_noreturn
#define pg_noreturn pg_attribute_noreturn()
#endif

/*
 * An SQL function of ours.  Up to PostgreSQL 15, PG_FUNCTION_INFO_V1 exports
 * only what goes with the function.
 */
#define DISTLOCK_FUNCTION(name) \
	extern PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(name)

/*
 * From libpq/libpq.h, which cannot be included where the headers of the
 * Kerberos library are not installed.
 */
extern bool pq_check_connection(void);

/* Does this backend hold the lock in exactly this mode? */
static inline bool
compat_lock_held(const LOCKTAG *tag, LOCKMODE mode)
{
#if PG_VERSION_NUM >= 170000
	return LockHeldByMe(tag, mode, false);
#else
	return LockHeldByMe(tag, mode);
#endif
}

/*
 * Take a transaction-level lock without waiting and without an error when the
 * shared lock table is full: both are LOCKACQUIRE_NOT_AVAIL.
 */
static inline LockAcquireResult
compat_lock_try_quietly(const LOCKTAG *tag, LOCKMODE mode)
{
#if PG_VERSION_NUM >= 180000
	return LockAcquireExtended(tag, mode, false, true, false, NULL, false);
#else
	return LockAcquireExtended(tag, mode, false, true, false, NULL);
#endif
}

/*
 * The process of a virtual transaction; NULL when there is none.  A prepared
 * transaction keeps the number of the process that it had, which another may
 * have by now.
 */
static inline PGPROC *
compat_vxid_proc(const VirtualTransactionId *vxid)
{
	PGPROC	   *proc;
	LocalTransactionId lxid;

#if PG_VERSION_NUM >= 170000
	proc = ProcNumberGetProc(vxid->procNumber);
	lxid = proc ? proc->vxid.lxid : InvalidLocalTransactionId;
#else
	proc = BackendIdGetProc(vxid->backendId);
	lxid = proc ? proc->lxid : InvalidLocalTransactionId;
#endif
	return lxid == vxid->localTransactionId ? proc : NULL;
}

/* What is known of the i-th backend, i from 1. */
static inline LocalPgBackendStatus *
compat_backend_status(int i)
{
#if PG_VERSION_NUM >= 160000
	return pgstat_get_local_beentry_by_index(i);
#else
	return pgstat_fetch_stat_local_beentry(i);
#endif
}

/* A relation's primary key; InvalidOid when it has none. */
static inline Oid
compat_primary_key(Relation table)
{
#if PG_VERSION_NUM >= 180000
	return RelationGetPrimaryKeyIndex(table, false);
#else
	return RelationGetPrimaryKeyIndex(table);
#endif
}

static inline IndexScanDesc
compat_index_beginscan(Relation table, Relation index, Snapshot snapshot,
					   int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(table, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(table, index, snapshot, nkeys, 0);
#endif
}

/*
 * Update one row, without waiting.  *new_index_entries tells
 * whether the new version needs entries in the indexes (it was not HOT).
 */
static inline TM_Result
compat_table_update(Relation table, ItemPointer tid, TupleTableSlot *slot,
					CommandId cid, TM_FailureData *failure,
					bool *new_index_entries)
{
	LockTupleMode mode;
	TM_Result	result;
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes update_indexes;
#else
	bool		update_indexes;
#endif

	result = table_tuple_update(table, tid, slot, cid, InvalidSnapshot,
								InvalidSnapshot, false, failure, &mode,
								&update_indexes);
#if PG_VERSION_NUM >= 160000
	*new_index_entries = (update_indexes == TU_All);
#else
	*new_index_entries = update_indexes;
#endif
	return result;
}

/* A wait event of this name, where PostgreSQL lets extensions name one. */
static inline uint32
compat_wait_event(uint32 *event, const char *name)
{
#if PG_VERSION_NUM >= 170000
	if (*event == 0)
		*event = WaitEventExtensionNew(name);
	return *event;
#else
	return PG_WAIT_EXTENSION;
#endif
}

/*
 * The wait event of a session that waits for a lock: named where PostgreSQL
 * lets extensions name one.
 */
static inline uint32
compat_wait_event_acquire(void)
{
	static uint32 event = 0;

	return compat_wait_event(&event, "DistlockAcquire");
}

/* Memory for what the check hook of a setting finds out; NULL when there is none. */
static inline void *
compat_guc_alloc(size_t size)
{
#if PG_VERSION_NUM >= 160000
	return guc_malloc(LOG, size);
#else
	return malloc(size);
#endif
}

static inline void
compat_guc_free(void *memory)
{
#if PG_VERSION_NUM >= 160000
	guc_free(memory);
#else
	free(memory);
#endif
}

/* Switch the limit to the length of transactions off, where there is one. */
static inline void
compat_no_transaction_timeout(void)
{
#if PG_VERSION_NUM >= 170000
	SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
#endif
}

/*
 * Memory shared by all processes that ask for it by this name; NULL where the
 * server has no such thing.
 */
static inline void *
compat_named_memory(const char *name, Size size, void (*initialize) (void *),
					bool *found)
{
#if PG_VERSION_NUM >= 170000
	return GetNamedDSMSegment(name, size, initialize, found);
#else
	return NULL;
#endif
}

/* The server's queue of notifications, in bytes: see commands/async.c. */
static inline double
compat_notification_queue_size(void)
{
#if PG_VERSION_NUM >= 170000
	return (double) max_notify_queue_pages * BLCKSZ;
#else
	return 8.0 * 1024 * 1024 * 1024;
#endif
}

/* This process's place among all, and a process by its place. */
static inline int
compat_my_proc(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProcNumber;
#else
	return MyProc->pgprocno;
#endif
}

/*
 * Does this process hold any lock of the lock manager?  For what it is used, no
 * lock is needed to look: others only move ours from one place to the other.
 */
static inline bool
compat_any_lock_held(void)
{
#if PG_VERSION_NUM >= 180000
	for (int i = 0; i < FastPathLockGroupsPerBackend; i++)
		if (MyProc->fpLockBits[i] != 0)
			return true;
#else
	if (MyProc->fpLockBits != 0)
		return true;
#endif
	for (int i = 0; i < NUM_LOCK_PARTITIONS; i++)
	{
#if PG_VERSION_NUM >= 160000
		if (!dlist_is_empty(&MyProc->myProcLocks[i]))
			return true;
#else
		if (!SHMQueueEmpty(&MyProc->myProcLocks[i]))
			return true;
#endif
	}
	return false;
}

static inline uint32
compat_wait_event_worker(void)
{
	static uint32 event = 0;

	return compat_wait_event(&event, "DistlockWorkerMain");
}

/* While it waits for what Redis has to say. */
static inline uint32
compat_wait_event_mirror(void)
{
	static uint32 event = 0;

	return compat_wait_event(&event, "DistlockMirror");
}

/* A set of events that outlasts transactions. */
static inline WaitEventSet *
compat_wait_event_set(int nevents)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, nevents);
#else
	return CreateWaitEventSet(TopMemoryContext, nevents);
#endif
}

static inline uint32
compat_wait_event_launcher(void)
{
	static uint32 event = 0;

	return compat_wait_event(&event, "DistlockLauncherMain");
}

#endif							/* DISTLOCK_COMPAT_H */
