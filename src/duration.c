/*-------------------------------------------------------------------------
 *
 * duration.c
 *	  Intervals as numbers of microseconds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "utils/timestamp.h"

#include "distlock.h"
#include "duration.h"

static int64 to_microseconds(const Interval *interval, const char *name);
pg_noreturn static void error_too_short(const char *name);
pg_noreturn static void error_too_long(const char *name);

int64
duration_ttl(const Interval *interval, const char *name)
{
	int64		result = to_microseconds(interval, name);

	if (result < USECS_PER_SEC / 1000)
		error_too_short(name);
	return result;
}

int64
duration_wait(const Interval *interval, const char *name)
{
	int64		result = to_microseconds(interval, name);

	if (result < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", name)));
	if (result > WAIT_MAX)
		error_too_long(name);
	return result;
}

int64
duration_delay(const Interval *interval, const char *name)
{
	int64		result = to_microseconds(interval, name);

	if (result < USECS_PER_SEC / 1000)
		error_too_short(name);
	if (result > WAIT_MAX)
		error_too_long(name);
	return result;
}

/*
 * PostgreSQL 17's infinite intervals have the largest or smallest number of
 * months, so that the test for months finds them on every version; so do
 * those that make_interval() let wrap around on 15.
 */
static int64
to_microseconds(const Interval *interval, const char *name)
{
	int64		result;

	if (interval->month == PG_INT32_MAX || interval->month == PG_INT32_MIN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be finite", name)));
	if (interval->month != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not have months or years", name),
				 errdetail("Months and years have no fixed length."),
				 errhint("Give it in days, hours, minutes or seconds.")));
	if (pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &result) ||
		pg_add_s64_overflow(result, interval->time, &result))
		error_too_long(name);
	return result;
}

Interval *
duration_to_interval(int64 microseconds)
{
	Interval   *result = palloc0(sizeof(Interval));

	result->time = microseconds;
	return result;
}

TimestampTz
duration_end(TimestampTz now, int64 ttl)
{
	TimestampTz result;

	if (pg_add_s64_overflow(now, ttl, &result) || !IS_VALID_TIMESTAMP(result))
		error_too_long("ttl");
	return result;
}

static void
error_too_short(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s must be at least 1 ms", name)));
}

static void
error_too_long(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s is too long", name),
			 errdetail("A wait or a delay can be up to 24 hours; a ttl has to end before the year 294277.")));
}
