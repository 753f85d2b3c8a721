/*-------------------------------------------------------------------------
 *
 * retry_sql.c
 *	  SQL functions that make retry strategies.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/timestamp.h"

#include "arguments.h"
#include "compat.h"
#include "duration.h"
#include "retry.h"

static Datum make_retry(FunctionCallInfo fcinfo, const RetryStrategy *strategy);

DISTLOCK_FUNCTION(distlock_linear_backoff);
DISTLOCK_FUNCTION(distlock_exponential_backoff);
DISTLOCK_FUNCTION(distlock_limit_retry);
DISTLOCK_FUNCTION(distlock_retry_delay);

Datum
distlock_linear_backoff(PG_FUNCTION_ARGS)
{
	RetryStrategy strategy;

	argument_check_not_null(fcinfo, 0, "delay");
	strategy.min_delay = duration_delay(PG_GETARG_INTERVAL_P(0), "delay");
	strategy.max_delay = strategy.min_delay;
	strategy.max_retries = -1;
	return make_retry(fcinfo, &strategy);
}

Datum
distlock_exponential_backoff(PG_FUNCTION_ARGS)
{
	RetryStrategy strategy;

	argument_check_not_null(fcinfo, 0, "min");
	argument_check_not_null(fcinfo, 1, "max");
	strategy.min_delay = duration_delay(PG_GETARG_INTERVAL_P(0), "min");
	strategy.max_delay = duration_delay(PG_GETARG_INTERVAL_P(1), "max");
	strategy.max_retries = -1;
	if (strategy.min_delay > strategy.max_delay)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("min must not be longer than max")));
	return make_retry(fcinfo, &strategy);
}

Datum
distlock_limit_retry(PG_FUNCTION_ARGS)
{
	RetryStrategy *strategy;
	int32		max;

	argument_check_not_null(fcinfo, 0, "retry");
	argument_check_not_null(fcinfo, 1, "max");
	strategy = argument_retry(fcinfo, 0);
	max = PG_GETARG_INT32(1);
	if (max < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max must not be negative")));
	if (strategy->max_retries < 0 || strategy->max_retries > max)
		strategy->max_retries = max;
	return make_retry(fcinfo, strategy);
}

Datum
distlock_retry_delay(PG_FUNCTION_ARGS)
{
	RetryStrategy *strategy;
	int32		n;
	int64		delay;

	argument_check_not_null(fcinfo, 0, "retry");
	argument_check_not_null(fcinfo, 1, "n");
	strategy = argument_retry(fcinfo, 0);
	n = PG_GETARG_INT32(1);
	if (n < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("n must be at least 1")));
	if (!retry_delay(strategy, n, &delay))
		PG_RETURN_NULL();
	PG_RETURN_INTERVAL_P(duration_to_interval(delay));
}

static Datum
make_retry(FunctionCallInfo fcinfo, const RetryStrategy *strategy)
{
	TupleDesc	descriptor;
	Datum		values[3];
	bool		isnull[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = IntervalPGetDatum(duration_to_interval(strategy->min_delay));
	values[1] = IntervalPGetDatum(duration_to_interval(strategy->max_delay));
	values[2] = Int32GetDatum(strategy->max_retries);
	isnull[2] = strategy->max_retries < 0;
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor),
											 values, isnull));
}
