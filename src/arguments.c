/*-------------------------------------------------------------------------
 *
 * arguments.c
 *	  Reading and checking the arguments of SQL functions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "executor/executor.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "arguments.h"
#include "duration.h"
#include "key.h"
#include "settings.h"
#include "text_bytes.h"
#include "token.h"

static bool is_word(const text *value, const char *word);

void
argument_check_not_null(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be NULL", name)));
}

void
argument_key(FunctionCallInfo fcinfo, int number, LockKey *key)
{
	argument_check_not_null(fcinfo, number, "key");
	key_init(key, PG_GETARG_TEXT_PP(number));
}

text *
argument_token(FunctionCallInfo fcinfo, int number)
{
	text	   *token;

	argument_check_not_null(fcinfo, number, "token");
	token = PG_GETARG_TEXT_PP(number);
	token_check(token);
	return token;
}

int64
argument_ttl(FunctionCallInfo fcinfo, int number)
{
	argument_check_not_null(fcinfo, number, "ttl");
	return duration_ttl(PG_GETARG_INTERVAL_P(number), "ttl");
}

int64
argument_wait(FunctionCallInfo fcinfo, int number)
{
	argument_check_not_null(fcinfo, number, "wait");
	return duration_wait(PG_GETARG_INTERVAL_P(number), "wait");
}

LockScope
argument_scope(FunctionCallInfo fcinfo, int number)
{
	const text *scope;

	argument_check_not_null(fcinfo, number, "scope");
	scope = PG_GETARG_TEXT_PP(number);
	if (is_word(scope, "lease"))
		return SCOPE_LEASE;
	if (is_word(scope, "transaction"))
		return SCOPE_TRANSACTION;
	if (is_word(scope, "session"))
	{
		if (!setting_session_scope)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("scope \"session\" is switched off"),
					 errdetail("distlock.session_scope is off, as for connections that a pooler hands out by the transaction: the lock would be the connection's, not the client's."),
					 errhint("Use scope \"lease\", or a connection of your own.")));
		return SCOPE_SESSION;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown scope"),
			 errhint("The scopes are \"lease\", \"session\" and \"transaction\".")));
}

text *
argument_text(FunctionCallInfo fcinfo, int number, const char *name,
			  int max_bytes)
{
	text	   *value;

	if (PG_ARGISNULL(number))
		return NULL;
	value = PG_GETARG_TEXT_PP(number);
	if (text_size(value) > max_bytes)
		ereport(ERROR,
				(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
				 errmsg("%s is too long", name),
				 errdetail("It has %d bytes; the limit is %d bytes.",
						   text_size(value), max_bytes)));
	return value;
}

/*
 * A strategy can be made by the functions for it, or by hand with ROW(), so
 * all of it is checked here.
 */
RetryStrategy *
argument_retry(FunctionCallInfo fcinfo, int number)
{
	HeapTupleHeader tuple;
	RetryStrategy *strategy;
	Datum		min_delay;
	Datum		max_delay;
	Datum		max_retries;
	bool		min_null;
	bool		max_null;
	bool		unlimited;

	if (PG_ARGISNULL(number))
		return NULL;

	tuple = PG_GETARG_HEAPTUPLEHEADER(number);
	min_delay = GetAttributeByNum(tuple, 1, &min_null);
	max_delay = GetAttributeByNum(tuple, 2, &max_null);
	max_retries = GetAttributeByNum(tuple, 3, &unlimited);
	if (min_null || max_null)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("retry must not have a NULL delay"),
				 errhint("Make it with linear_backoff or exponential_backoff.")));

	strategy = palloc(sizeof(RetryStrategy));
	strategy->min_delay = duration_delay(DatumGetIntervalP(min_delay),
										 "min_delay");
	strategy->max_delay = duration_delay(DatumGetIntervalP(max_delay),
										 "max_delay");
	strategy->max_retries = unlimited ? -1 : DatumGetInt32(max_retries);
	if (strategy->min_delay > strategy->max_delay)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the shortest delay must not be longer than the longest")));
	if (!unlimited && strategy->max_retries < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the number of retries must not be negative")));
	return strategy;
}

void
argument_check_may_commit(FunctionCallInfo fcinfo, const char *name)
{
	if (fcinfo->context != NULL && IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
			 errmsg("%s cannot run inside a transaction block", name),
			 errdetail("It commits transactions of its own."),
			 errhint("Call it by itself, not after BEGIN and not from a function.")));
}

static bool
is_word(const text *value, const char *word)
{
	size_t		length = strlen(word);

	return text_size(value) == length &&
		memcmp(text_bytes(value), word, length) == 0;
}
