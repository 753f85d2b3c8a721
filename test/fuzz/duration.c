/*-------------------------------------------------------------------------
 *
 * duration.c
 *	  Fuzzes intervals, and the delays of retry strategies.
 *
 * sources: duration.c retry.c
 * lines: 95
 *
 * What is accepted, and what comes out, is compared with sums of 128 bits.  Days
 * that are too many by themselves are refused whatever is taken off again.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "duration.h"
#include "retry.h"

typedef struct Call
{
	const Interval *interval;
	int			kind;
	int64		result;
	TimestampTz now;
} Call;

static const int codes[] = {ERRCODE_INVALID_PARAMETER_VALUE, 0};

static void call_duration(void *arg);
static void call_end(void *arg);
static void try_retry(FuzzInput *input);

void
fuzz_one(FuzzInput *input)
{
	Interval   *interval = palloc0(sizeof(Interval));
	Call		call = {interval, fuzz_up_to(input, 2)};
	int128		days;
	int128		expected;
	int128		least = call.kind == 1 ? 0 : 1000;
	int128		most = call.kind == 0 ? PG_INT64_MAX : WAIT_MAX;
	bool		fits;

	interval->month = fuzz_byte(input) & 1 ? (int32) fuzz_number(input) : 0;
	interval->day = (int32) fuzz_number(input);
	interval->time = fuzz_number(input);
	days = (int128) interval->day * USECS_PER_DAY;
	expected = days + interval->time;
	fits = interval->month == 0 && expected >= least && expected <= most &&
		days >= PG_INT64_MIN && days <= PG_INT64_MAX;

	fuzz_check(fuzz_raises(call_duration, &call, codes) == !fits);
	if (fits)
	{
		Interval   *back;

		fuzz_check(call.result == expected);
		back = duration_to_interval(call.result);
		fuzz_check(back->time == call.result && back->day == 0 &&
				   back->month == 0);

		call.now = fuzz_number(input);
		expected += call.now;
		fits = expected >= MIN_TIMESTAMP && expected < END_TIMESTAMP;
		fuzz_check(fuzz_raises(call_end, &call, codes) == !fits);
	}
	try_retry(input);
}

static void
call_duration(void *arg)
{
	Call	   *call = arg;

	switch (call->kind)
	{
		case 0:
			call->result = duration_ttl(call->interval, "ttl");
			break;
		case 1:
			call->result = duration_wait(call->interval, "wait");
			break;
		default:
			call->result = duration_delay(call->interval, "min_delay");
	}
}

static void
call_end(void *arg)
{
	Call	   *call = arg;

	fuzz_check(duration_end(call->now, call->result) ==
			   call->now + call->result);
}

/*
 * A strategy as argument_retry() lets it through.
 */
static void
try_retry(FuzzInput *input)
{
	RetryStrategy strategy = {fuzz_number(input), fuzz_number(input),
	(int32) fuzz_number(input)};
	int64		n = fuzz_number(input);
	int64		delay;

	if (strategy.min_delay < 1000 || strategy.max_delay < strategy.min_delay ||
		strategy.max_delay > WAIT_MAX || strategy.max_retries < -1 || n < 1)
		return;
	if (retry_delay(&strategy, n, &delay))
		fuzz_check(delay >= strategy.min_delay && delay <= strategy.max_delay);
	else
		fuzz_check(strategy.max_retries >= 0 && n > strategy.max_retries);
}
