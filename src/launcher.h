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
 * How long we try to register a worker before we say that there are too few
 * places, in microseconds: the place of a process that has ended is free when the
 * postmaster has noticed, which on a busy machine takes its time.
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
