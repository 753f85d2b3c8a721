/*-------------------------------------------------------------------------
 *
 * mirror_sql.c
 *	  SQL functions to see the mirrors, and to compare them with the table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "arguments.h"
#include "compat.h"
#include "duration.h"
#include "mirror_ask.h"
#include "shared.h"

DISTLOCK_FUNCTION(distlock_read_mirror_status);
DISTLOCK_FUNCTION(distlock_mirror_check);

static void put_status(ReturnSetInfo *result, Oid database,
					   const MirrorStatus *status, bool with_error);
#ifdef DISTLOCK_WITH_REDIS
static void put_difference(const MirrorAnswer *answer, void *arg);
static Datum text_datum(const char *bytes, int length);
#endif

Datum
distlock_read_mirror_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	SharedState *shared = shared_state();
	bool		all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; shared != NULL && i < shared->num_slots; i++)
	{
		const DatabaseSlot *slot = &shared->slots[i];
		Oid			database = slot->database;

		if (!OidIsValid(database) || (!all && database != MyDatabaseId))
			continue;
		for (int j = 0; j < slot->num_mirrors; j++)
			put_status(result, database, &slot->mirrors[j], all);
	}
	return (Datum) 0;
}

Datum
distlock_mirror_check(PG_FUNCTION_ARGS)
{
#ifdef DISTLOCK_WITH_REDIS
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int64		timeout;

	argument_check_not_null(fcinfo, 0, "timeout");
	timeout = duration_delay(PG_GETARG_INTERVAL_P(0), "timeout");
	InitMaterializedSRF(fcinfo, 0);
	mirror_ask(timeout, put_difference, result);
#else
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("this distlock was built without Redis")));
#endif
	return (Datum) 0;
}

static void
put_status(ReturnSetInfo *result, Oid database, const MirrorStatus *shared,
		   bool with_error)
{
	static const char *const states[] = {
		[MIRROR_DISCONNECTED] = "disconnected",
		[MIRROR_CONNECTING] = "connecting",
		[MIRROR_RECONCILING] = "reconciling",
		[MIRROR_FAILING] = "failing",
		[MIRROR_CONNECTED] = "connected",
	};
	MirrorStatus status;
	Datum		values[13];
	bool		isnull[13] = {false};
	int64		lag = 0;

	/* The worker writes it meanwhile; each of its texts has an end. */
	memcpy(&status, shared, sizeof(status));
	status.name[MIRROR_NAME_SIZE - 1] = '\0';
	status.last_error[LAST_ERROR_SIZE - 1] = '\0';
	if (status.behind_since != 0)
		lag = Max(GetCurrentTimestamp() - status.behind_since, 0);

	values[0] = ObjectIdGetDatum(database);
	values[1] = CStringGetTextDatum(status.name);
	values[2] = CStringGetTextDatum(states[status.state]);
	values[3] = TimestampTzGetDatum(status.since);
	values[4] = Float8GetDatum(lag / 1000.0);
	values[5] = Int64GetDatum(status.keys);
	values[6] = Int64GetDatum(status.conflicts);
	values[7] = Int64GetDatum(status.connections);
	values[8] = TimestampTzGetDatum(status.reconciled_at);
	isnull[8] = status.reconciled_at == 0;
	values[9] = Int64GetDatum(status.errors);
	isnull[10] = !with_error || status.last_error_at == 0;
	values[10] = isnull[10] ? (Datum) 0 : CStringGetTextDatum(status.last_error);
	values[11] = TimestampTzGetDatum(status.last_error_at);
	isnull[11] = status.last_error_at == 0;
	values[12] = Int32GetDatum(status.state);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

#ifdef DISTLOCK_WITH_REDIS

static void
put_difference(const MirrorAnswer *answer, void *arg)
{
	ReturnSetInfo *result = arg;
	Datum		values[4];
	bool		isnull[4] = {false};

	values[0] = CStringGetTextDatum(answer->mirror);
	isnull[1] = answer->key == NULL;
	values[1] = isnull[1] ? (Datum) 0 : text_datum(answer->key,
												   answer->key_length);
	isnull[2] = answer->redis_key == NULL;
	values[2] = isnull[2] ? (Datum) 0 : text_datum(answer->redis_key,
												   answer->redis_length);
	values[3] = CStringGetTextDatum(answer->problem);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/*
 * What was found in Redis need not be a text of this database.
 */
static Datum
text_datum(const char *bytes, int length)
{
	char	   *copy = palloc(length);

	/* It may have a zero byte anywhere. */
	memcpy(copy, bytes, length);
	if (!pg_verify_mbstr(GetDatabaseEncoding(), copy, length, true))
	{
		for (int i = 0; i < length; i++)
		{
			if (copy[i] == '\0' || IS_HIGHBIT_SET(copy[i]))
				copy[i] = '?';
		}
	}
	return PointerGetDatum(cstring_to_text_with_len(copy, length));
}

#endif
