/*-------------------------------------------------------------------------
 *
 * databases.h
 *	  The databases of the server, as a launcher remembers them.
 *
 * What the states mean, and what comes after them, is in README.worker.md; only
 * launcher.c changes them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_DATABASES_H
#define DISTLOCK_DATABASES_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "postmaster/bgworker.h"

typedef enum DatabaseState
{
	DATABASE_UNKNOWN,			/* to be looked at, by starting a worker */
	DATABASE_STARTING,			/* a worker has been registered */
	DATABASE_RUNNING,			/* it has one */
	DATABASE_ABSENT,			/* it has no extension */
	DATABASE_RESTING,			/* to be tried again at next_at */
	DATABASE_STOPPED			/* stop_worker() */
} DatabaseState;

typedef struct Database
{
	Oid			oid;
	char		name[NAMEDATALEN];
	DatabaseState state;
	TimestampTz since;			/* when the state began */
	TimestampTz next_at;		/* of RESTING */
	int64		pause;			/* after the last failure */
	BackgroundWorkerHandle *handle; /* NULL: started by another launcher */
	bool		eligible;		/* not a template, and one can connect */
	bool		seen;			/* in the last look at pg_database */
} Database;

/*
 * Read the list of databases, or this one: those that are new become UNKNOWN,
 * those that are gone are forgotten.
 */
extern void databases_look(Oid only);

extern List *databases_all(void);
extern Database *databases_find(Oid oid);

extern void database_change(Database *database, DatabaseState state);
extern void database_rest(Database *database, int64 microseconds);

#endif							/* DISTLOCK_DATABASES_H */
