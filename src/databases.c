/*-------------------------------------------------------------------------
 *
 * databases.c
 *	  The databases of the server, as a launcher remembers them.
 *
 * They are read from pg_database, without any lock but the catalog's: who drops
 * a database need not wait for us, nor we for him.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "databases.h"

/* A database that was left half dropped; a connection would fail. */
#define CONNECTION_LIMIT_INVALID (-2)

static List *databases = NIL;	/* Database *, in TopMemoryContext */

static void see(Form_pg_database form, Oid only);
static void forget_unseen(void);

List *
databases_all(void)
{
	return databases;
}

Database *
databases_find(Oid oid)
{
	ListCell   *cell;

	foreach(cell, databases)
	{
		Database   *database = lfirst(cell);

		if (database->oid == oid)
			return database;
	}
	return NULL;
}

void
databases_look(Oid only)
{
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;
	ListCell   *cell;

	foreach(cell, databases)
		((Database *) lfirst(cell))->seen = false;

	StartTransactionCommand();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
		see((Form_pg_database) GETSTRUCT(tuple), only);
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();

	forget_unseen();
}

static void
see(Form_pg_database form, Oid only)
{
	Database   *database;

	if (OidIsValid(only) && form->oid != only)
		return;

	database = databases_find(form->oid);
	if (database == NULL)
	{
		MemoryContext saved = MemoryContextSwitchTo(TopMemoryContext);

		database = palloc0(sizeof(Database));
		database->oid = form->oid;
		databases = lappend(databases, database);
		MemoryContextSwitchTo(saved);
		database_change(database, DATABASE_UNKNOWN);
	}
	strlcpy(database->name, NameStr(form->datname), NAMEDATALEN);
	database->eligible = !form->datistemplate && form->datallowconn &&
		form->datconnlimit != CONNECTION_LIMIT_INVALID;
	database->seen = true;
}

/*
 * Those that were not seen are gone, or not for us any more.
 */
static void
forget_unseen(void)
{
	ListCell   *cell;

	foreach(cell, databases)
	{
		Database   *database = lfirst(cell);

		if (database->seen)
			continue;
		if (database->handle != NULL)
			pfree(database->handle);
		pfree(database);
		databases = foreach_delete_current(databases, cell);
	}
}

void
database_change(Database *database, DatabaseState state)
{
	database->state = state;
	database->since = GetCurrentTimestamp();
}

void
database_rest(Database *database, int64 microseconds)
{
	database_change(database, DATABASE_RESTING);
	database->next_at = database->since + microseconds;
}
