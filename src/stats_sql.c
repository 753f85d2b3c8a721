/*-------------------------------------------------------------------------
 *
 * stats_sql.c
 *	  SQL functions for the statistics and the views that show them.
 *
 * Numbers are read while others add to them: those of a row need not be of the
 * very same moment.  The statistics of this database are everybody's to read,
 * those of others are for members of pg_read_all_stats.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "duration.h"
#include "key.h"
#include "lock_table.h"
#include "stats.h"

/* While others are at the table of the busiest keys, in microseconds. */
#define PAUSE 100L

static DatabaseSlot *next_slot(int *number, Oid *database, TimestampTz *since);
static DatabaseSlot *own_slot(void);
static void put_stats(ReturnSetInfo *result, DatabaseSlot *slot, Oid database,
					  TimestampTz since);
static void put_histogram(ReturnSetInfo *result, Oid database,
						  const char *what, pg_atomic_uint64 *histogram);
static int	copy_busiest(DatabaseSlot *slot, KeyStats *entries);
static int	compare_entries(const void *a, const void *b);
static void find_keys(const KeyStats *entries, int nentries, text **keys);
static Datum milliseconds(uint64 microseconds);

DISTLOCK_FUNCTION(distlock_read_stats);
DISTLOCK_FUNCTION(distlock_read_histograms);
DISTLOCK_FUNCTION(distlock_read_busiest_keys);
DISTLOCK_FUNCTION(distlock_reset_stats);

Datum
distlock_read_stats(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	DatabaseSlot *slot;
	Oid			database;
	TimestampTz since;
	int			number = 0;
	bool		own = false;

	InitMaterializedSRF(fcinfo, 0);
	while ((slot = next_slot(&number, &database, &since)) != NULL)
	{
		put_stats(result, slot, database, since);
		if (database == MyDatabaseId)
			own = true;
	}
	if (!own)
		put_stats(result, NULL, MyDatabaseId, 0);
	return (Datum) 0;
}

Datum
distlock_read_histograms(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	DatabaseSlot *slot;
	Oid			database;
	TimestampTz since;
	int			number = 0;

	InitMaterializedSRF(fcinfo, 0);
	while ((slot = next_slot(&number, &database, &since)) != NULL)
	{
		put_histogram(result, database, "wait", slot->wait_histogram);
		put_histogram(result, database, "hold", slot->hold_histogram);
	}
	return (Datum) 0;
}

Datum
distlock_read_busiest_keys(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	DatabaseSlot *slot = own_slot();
	KeyStats	entries[BUSIEST_KEYS];
	text	   *keys[BUSIEST_KEYS] = {NULL};
	int			nentries = 0;

	InitMaterializedSRF(fcinfo, 0);
	if (slot != NULL)
		nentries = copy_busiest(slot, entries);
	find_keys(entries, nentries, keys);

	for (int i = 0; i < nentries; i++)
	{
		const KeyStats *entry = &entries[i];
		Datum		values[7];
		bool		isnull[7] = {false};

		values[0] = PointerGetDatum(keys[i]);
		isnull[0] = (keys[i] == NULL);
		values[1] = Int64GetDatum((int64) entry->calls);
		values[2] = Int64GetDatum((int64) entry->inherited);
		values[3] = Int64GetDatum((int64) entry->grants);
		values[4] = Int64GetDatum((int64) entry->refusals);
		values[5] = Int64GetDatum((int64) entry->waits);
		values[6] = milliseconds(entry->wait_time);
		tuplestore_putvalues(result->setResult, result->setDesc, values,
							 isnull);
	}
	return (Datum) 0;
}

Datum
distlock_reset_stats(PG_FUNCTION_ARGS)
{
	DatabaseSlot *slot = shared_slot();

	if (slot != NULL)
		stats_reset(slot);
	PG_RETURN_VOID();
}

/*
 * The next slot of a database whose statistics the user may see; NULL when
 * there is none.  The slot may be given to another database while it is read,
 * which then shows once.
 */
static DatabaseSlot *
next_slot(int *number, Oid *database, TimestampTz *since)
{
	SharedState *state = shared_state();

	while (state != NULL && *number < state->num_slots)
	{
		DatabaseSlot *slot = &state->slots[(*number)++];

		shared_lock();
		*database = slot->database;
		*since = slot->stats_since;
		shared_unlock();
		if (OidIsValid(*database) &&
			(*database == MyDatabaseId ||
			 has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS)))
			return slot;
	}
	return NULL;
}

static DatabaseSlot *
own_slot(void)
{
	DatabaseSlot *slot;

	if (shared_state() == NULL)
		return NULL;
	shared_lock();
	slot = shared_find_slot(MyDatabaseId);
	shared_unlock();
	return slot;
}

static void
put_stats(ReturnSetInfo *result, DatabaseSlot *slot, Oid database,
		  TimestampTz since)
{
	uint64		counters[NUM_COUNTERS] = {0};
	Datum		values[13];
	bool		isnull[13] = {false};

	for (int i = 0; slot != NULL && i < NUM_COUNTERS; i++)
		counters[i] = pg_atomic_read_u64(&slot->counters[i]);

	values[0] = ObjectIdGetDatum(database);
	values[1] = Int64GetDatum((int64) counters[COUNT_GRANTS]);
	values[2] = Int64GetDatum((int64) counters[COUNT_REFUSALS]);
	values[3] = Int64GetDatum((int64) counters[COUNT_RELEASES]);
	values[4] = Int64GetDatum((int64) counters[COUNT_EXTENSIONS]);
	values[5] = Int64GetDatum((int64) counters[COUNT_EXPIRIES]);
	values[6] = Int64GetDatum((int64) counters[COUNT_TAKE_OVERS]);
	values[7] = Int64GetDatum((int64) counters[COUNT_WAITS]);
	values[8] = milliseconds(counters[COUNT_WAIT_TIME]);
	values[9] = milliseconds(counters[COUNT_HOLD_TIME]);
	values[10] = Int64GetDatum((int64) counters[COUNT_EVENTS]);
	values[11] = Int64GetDatum((int64) counters[COUNT_EVENTS_LOST]);
	values[12] = TimestampTzGetDatum(since);
	isnull[12] = (slot == NULL);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/*
 * Up to the last bucket that is not empty.
 */
static void
put_histogram(ReturnSetInfo *result, Oid database, const char *what,
			  pg_atomic_uint64 *histogram)
{
	uint64		counts[HISTOGRAM_BUCKETS];
	int			nbuckets = 0;

	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
	{
		counts[i] = pg_atomic_read_u64(&histogram[i]);
		if (counts[i] != 0)
			nbuckets = i + 1;
	}

	for (int i = 0; i < nbuckets; i++)
	{
		int64		bound = stats_bucket_bound(i);
		Datum		values[4];
		bool		isnull[4] = {false};

		values[0] = ObjectIdGetDatum(database);
		values[1] = PointerGetDatum(cstring_to_text(what));
		isnull[2] = (bound == PG_INT64_MAX);
		values[2] = isnull[2] ? (Datum) 0 :
			PointerGetDatum(duration_to_interval(bound));
		values[3] = Int64GetDatum((int64) counts[i]);
		tuplestore_putvalues(result->setResult, result->setDesc, values,
							 isnull);
	}
}

/*
 * Copy the entries in use, in the order of their calls; returns their number.
 * It waits for the flag (see stats.c), since an empty table would be a wrong
 * answer; those who count pass by while it is copied.
 */
static int
copy_busiest(DatabaseSlot *slot, KeyStats *entries)
{
	int			nentries = 0;

	while (!pg_atomic_test_set_flag(&slot->busiest_in_use))
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(PAUSE);
	}
	memcpy(entries, slot->busiest, sizeof(slot->busiest));
	pg_atomic_clear_flag(&slot->busiest_in_use);

	while (nentries < BUSIEST_KEYS &&
		   (entries[nentries].calls > 0 || entries[nentries].waits > 0))
		nentries++;
	qsort(entries, nentries, sizeof(KeyStats), compare_entries);
	return nentries;
}

/*
 * Most calls first; of the same number, those that are surest.
 */
static int
compare_entries(const void *a, const void *b)
{
	const KeyStats *x = a;
	const KeyStats *y = b;

	if (x->calls != y->calls)
		return x->calls > y->calls ? -1 : 1;
	if (x->inherited != y->inherited)
		return x->inherited < y->inherited ? -1 : 1;
	return 0;
}

/*
 * What is counted are hashes of keys; the keys are in the table, but for those
 * that have been purged from it, and those that only locks of scope
 * "transaction" were taken on.
 */
static void
find_keys(const KeyStats *entries, int nentries, text **keys)
{
	uint64		hashes[BUSIEST_KEYS];
	LockTable	table;
	List	   *found;
	ListCell   *cell;

	if (nentries == 0)
		return;
	for (int i = 0; i < nentries; i++)
		hashes[i] = entries[i].key_hash;
	lock_table_open(&table, AccessShareLock);
	found = lock_table_keys_with_hash(&table, hashes, nentries);
	lock_table_close(&table, false);

	foreach(cell, found)
	{
		LockKey		key;

		key_from_stored(&key, lfirst(cell));
		for (int i = 0; i < nentries; i++)
		{
			if (hashes[i] == key.hash)
				keys[i] = key.value;
		}
	}
}

static Datum
milliseconds(uint64 microseconds)
{
	return Float8GetDatum((double) microseconds / 1000.0);
}
