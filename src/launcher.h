/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  Who keeps the workers.  See README.worker.md.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_LAUNCHER_H
#define DISTLOCK_LAUNCHER_H

#include "compat.h"

/*
 * How long no worker could be registered before it is said that there are too
 * few places, in microseconds: a process that has ended leaves its place when
 * the postmaster has seen it, and that of a busy machine takes its time.
 */
#define PATIENCE_FOR_PLACE (2 * USECS_PER_SEC)

/* Call from _PG_init while the server starts: one for all databases. */
extern void launcher_register(void);

/*
 * Where distlock is not preloaded: one for this database.  False when
 * max_worker_processes is exhausted.
 */
extern bool launcher_register_keeper(Oid database);

/* Where such a process begins; InvalidOid means all databases. */
extern PGDLLEXPORT void distlock_launcher_main(Datum database);

#endif							/* DISTLOCK_LAUNCHER_H */
