/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  The worker of a database.  See README.worker.md.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_WORKER_H
#define DISTLOCK_WORKER_H

#include "compat.h"
#include "postmaster/bgworker.h"

/*
 * Register a worker for this database, and have the caller told when it starts
 * and ends.  False when max_worker_processes is exhausted.
 */
extern bool worker_register(Oid database, const char *name,
							BackgroundWorkerHandle **handle);

/*
 * At the events of transactions: tell launchers and workers of extensions that
 * have come or gone, and of databases that have come.
 */
extern void worker_extension_created(void);
extern void worker_extension_dropped(void);
extern void worker_database_changed(void);
extern void worker_at_locks_released(void);
extern void worker_at_prepare(void);
extern void worker_at_abort(void);

/*
 * This transaction is about to drop that database, and has locked it: have its
 * worker leave, and wait for that a moment.
 */
extern void worker_send_away(Oid database);

/* Is this database being dropped, renamed, copied?  Takes no lock. */
extern bool worker_database_is_wanted(Oid database);

/* Settings that no database or role may change for our processes. */
extern void worker_fix_settings(void);

/* Where such a process begins. */
extern PGDLLEXPORT void distlock_worker_main(Datum database);

#endif							/* DISTLOCK_WORKER_H */
