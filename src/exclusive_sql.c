/*-------------------------------------------------------------------------
 *
 * exclusive_sql.c
 *	  SQL functions for work that runs under a lock, and for tables that may be
 *	  written under one only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "arguments.h"
#include "compat.h"
#include "errors.h"
#include "exclusive.h"
#include "key.h"
#include "not_granted.h"

static bool do_exclusively(FunctionCallInfo fcinfo, bool raise, uint64 *rows);
static char *arguments(FunctionCallInfo fcinfo, AcquireRequest *request);

DISTLOCK_FUNCTION(distlock_do_exclusively);
DISTLOCK_FUNCTION(distlock_try_do_exclusively);
DISTLOCK_FUNCTION(distlock_run_exclusively);
DISTLOCK_FUNCTION(distlock_current_fence);
DISTLOCK_FUNCTION(distlock_require_lock);

Datum
distlock_do_exclusively(PG_FUNCTION_ARGS)
{
	uint64		rows;

	do_exclusively(fcinfo, true, &rows);
	PG_RETURN_INT64((int64) rows);
}

Datum
distlock_try_do_exclusively(PG_FUNCTION_ARGS)
{
	uint64		rows;

	if (!do_exclusively(fcinfo, false, &rows))
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) rows);
}

Datum
distlock_run_exclusively(PG_FUNCTION_ARGS)
{
	AcquireRequest request = {0};
	Refusal		refusal = {0};
	char	   *command;

	command = arguments(fcinfo, &request);
	argument_check_may_commit(fcinfo, "run_exclusively()");
	if (!exclusive_run(&request, command, &refusal))
		error_not_granted(&request.key, &refusal);
	PG_RETURN_VOID();
}

Datum
distlock_current_fence(PG_FUNCTION_ARGS)
{
	int64		fence = exclusive_current_fence();

	if (fence == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(fence);
}

/*
 * A trigger whose argument is a key.
 */
Datum
distlock_require_lock(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	LockKey		key;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("require_lock() must be called as a trigger")));
	if (!TRIGGER_FIRED_BEFORE(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("require_lock() must be called before the change"),
				 errhint("Create the trigger with BEFORE.")));
	if (data->tg_trigger->tgnargs != 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("require_lock() needs one argument, the key")));

	key_init(&key, cstring_to_text(data->tg_trigger->tgargs[0]));
	if (!lease_is_covered(&key))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_HELD),
				 errmsg("table \"%s\" can be changed only under lock \"%s\"",
						RelationGetRelationName(data->tg_relation),
						error_key(&key)),
				 errdetail("This transaction neither holds nor guards the lock."),
				 errhint("Call guard() with the token, or acquire the lock in this transaction.")));

	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		return PointerGetDatum(data->tg_newtuple);
	return PointerGetDatum(data->tg_trigtuple);
}

static bool
do_exclusively(FunctionCallInfo fcinfo, bool raise, uint64 *rows)
{
	AcquireRequest request = {0};
	Refusal		refusal = {0};
	char	   *command;

	command = arguments(fcinfo, &request);
	request.scope = SCOPE_TRANSACTION;
	if (exclusive_do(&request, command, rows, &refusal))
		return true;
	if (raise)
		error_not_granted(&request.key, &refusal);
	return false;
}

/*
 * What all of them take; returns the command.
 */
static char *
arguments(FunctionCallInfo fcinfo, AcquireRequest *request)
{
	argument_key(fcinfo, 0, &request->key);
	request->ttl = argument_ttl(fcinfo, 1);
	argument_check_not_null(fcinfo, 2, "command");
	request->wait = argument_wait(fcinfo, 3);
	request->owner = argument_text(fcinfo, 4, "owner", OWNER_MAX_BYTES);
	return text_to_cstring(PG_GETARG_TEXT_PP(2));
}
