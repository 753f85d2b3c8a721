/*-------------------------------------------------------------------------
 *
 * arguments.c
 *	  Fuzzes the arguments of SQL functions: keys, tokens, scopes, strategies.
 *
 * sources: arguments.c key.c token.c
 * with: duration.c
 * lines: 85
 *
 * A secret must not be in any message: nothing that is refused is quoted.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "access/htup_details.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "arguments.h"
#include "key.h"
#include "token.h"

typedef struct Call
{
	FunctionCallInfo fcinfo;
	int			kind;
	text	   *value;
	LockKey		key;
	void	   *result;
	int64		number;
} Call;

/* The row of a strategy, by which GetAttributeByNum() answers. */
static Datum row_values[3];
static bool row_nulls[3];

bool		setting_session_scope;
Oid			MyDatabaseId = 5;

static const int codes[] = {ERRCODE_NULL_VALUE_NOT_ALLOWED,
	ERRCODE_INVALID_PARAMETER_VALUE, ERRCODE_STRING_DATA_RIGHT_TRUNCATION,
	ERRCODE_FEATURE_NOT_SUPPORTED,
0};

static text *make_text(FuzzInput *input);
static void call_argument(void *arg);
static bool expected_to_fit(const Call *call, size_t length, bool is_null);
static void check_not_quoted(const text *value);
static void try_texts(FuzzInput *input, Call *call);
static void try_retry(FuzzInput *input, Call *call);
static void try_interval(FuzzInput *input, Call *call);
static void try_equal(FuzzInput *input);

#ifndef DatumGetHeapTupleHeader
HeapTupleHeader
DatumGetHeapTupleHeader(Datum datum)
{
	return (HeapTupleHeader) DatumGetPointer(datum);
}
#endif

Datum
GetAttributeByNum(HeapTupleHeader tuple, AttrNumber attrno, bool *isNull)
{
	*isNull = row_nulls[attrno - 1];
	return row_values[attrno - 1];
}

void
fuzz_one(FuzzInput *input)
{
	LOCAL_FCINFO(fcinfo, 1);
	Call		call = {fcinfo, fuzz_up_to(input, 7)};

	memset(fcinfo, 0, SizeForFunctionCallInfo(1));
	fcinfo->nargs = 1;
	setting_session_scope = (fuzz_byte(input) & 1) != 0;
	if (call.kind >= 6)
		try_interval(input, &call);
	else if (call.kind == 5)
		try_retry(input, &call);
	else if (call.kind == 4)
		try_equal(input);
	else
		try_texts(input, &call);
}

static void
try_texts(FuzzInput *input, Call *call)
{
	bool		is_null = fuzz_up_to(input, 15) == 15;
	size_t		length;
	bool		fits;

	call->value = make_text(input);
	length = VARSIZE_ANY_EXHDR(call->value);
	call->fcinfo->args[0].value = PointerGetDatum(call->value);
	call->fcinfo->args[0].isnull = is_null;
	fits = expected_to_fit(call, length, is_null);
	fuzz_check(fuzz_raises(call_argument, call, codes) == !fits);
	if (!fits)
		check_not_quoted(call->value);
	else if (call->kind == 0)
	{
		LockKey		stored;
		LOCKTAG		tag;
		char	   *copy = palloc(length);

		fuzz_check(call->key.len == length);
		memcpy(copy, call->key.bytes, length);
		fuzz_check(fuzz_text_is(call->value, copy, length));

		/* What comes out of the table is the same key, whatever its header. */
		key_from_stored(&stored, (text *) pg_detoast_datum((struct varlena *) call->value));
		fuzz_check(key_equal(&stored, &call->key));
		fuzz_check(stored.hash == call->key.hash);
		key_lock_tag(&tag, call->key.hash, CLASS_KEY);
		fuzz_check(tag.locktag_type == LOCKTAG_ADVISORY);
		fuzz_check(tag.locktag_field4 == CLASS_KEY);
		fuzz_check(((uint64) tag.locktag_field2 << 32 | tag.locktag_field3) ==
				   call->key.hash);
	}
}

/*
 * Of any bytes, or of a length at a limit.
 */
static text *
make_text(FuzzInput *input)
{
	static const int lengths[] = {0, 1, 126, 127, OWNER_MAX_BYTES,
		OWNER_MAX_BYTES + 1, KEY_MAX_BYTES - 1, KEY_MAX_BYTES,
	KEY_MAX_BYTES + 1, 70000};
	FuzzInput	filled;
	int			length;
	char	   *bytes;

	if (fuzz_up_to(input, 3) != 3)
		return fuzz_text(input, fuzz_up_to(input, 5000));
	length = lengths[fuzz_up_to(input, lengthof(lengths) - 1)];
	bytes = memset(palloc(length + 1), fuzz_byte(input), length + 1);
	filled.data = (unsigned char *) bytes;
	filled.length = length + 1;
	return fuzz_text(&filled, length);
}

static void
call_argument(void *arg)
{
	Call	   *call = arg;

	switch (call->kind)
	{
		case 0:
			argument_key(call->fcinfo, 0, &call->key);
			break;
		case 1:
			call->result = argument_token(call->fcinfo, 0);
			fuzz_check(call->result == call->value);
			break;
		case 2:
			call->number = argument_scope(call->fcinfo, 0);
			break;
		case 3:
			call->result = argument_text(call->fcinfo, 0, "owner",
										 OWNER_MAX_BYTES);
			break;
		case 6:
			call->number = argument_ttl(call->fcinfo, 0);
			break;
		case 7:
			call->number = argument_wait(call->fcinfo, 0);
			break;
		default:
			call->result = argument_retry(call->fcinfo, 0);
	}
}

static bool
expected_to_fit(const Call *call, size_t length, bool is_null)
{
	switch (call->kind)
	{
		case 0:
			return !is_null && length >= 1 && length <= KEY_MAX_BYTES;
		case 1:
			return !is_null && length >= 1 && length <= TOKEN_MAX_BYTES;
		case 2:
			if (is_null)
				return false;
			return fuzz_text_is(call->value, "lease", 5) ||
				fuzz_text_is(call->value, "transaction", 11) ||
				(setting_session_scope &&
				 fuzz_text_is(call->value, "session", 7));
		default:
			return is_null || length <= OWNER_MAX_BYTES;
	}
}

/*
 * If it is longer than anything that could be there by chance.
 */
static void
check_not_quoted(const text *value)
{
	char	   *word = text_to_cstring(value);

	if (strlen(word) < 200)
		return;
	word[200] = '\0';
	fuzz_check(strstr(fuzz_error.message, word) == NULL);
	fuzz_check(strstr(fuzz_error.detail, word) == NULL);
	fuzz_check(strstr(fuzz_error.hint, word) == NULL);
}

static void
try_retry(FuzzInput *input, Call *call)
{
	Interval   *delays = palloc0(2 * sizeof(Interval));
	int			max = (int32) fuzz_number(input);
	int			nulls = fuzz_byte(input);
	int128		wanted[2];
	bool		fits = true;
	RetryStrategy *strategy;

	for (int i = 0; i < 2; i++)
	{
		delays[i].time = fuzz_number(input);
		delays[i].day = (int32) fuzz_number(input);
		delays[i].month = fuzz_up_to(input, 7) == 7;
		wanted[i] = (int128) delays[i].day * USECS_PER_DAY;
		fits = fits && wanted[i] >= PG_INT64_MIN && wanted[i] <= PG_INT64_MAX;
		wanted[i] += delays[i].time;
		row_values[i] = IntervalPGetDatum(&delays[i]);
		row_nulls[i] = (nulls & (16 << i)) == (16 << i) && nulls >= 224;
		fits = fits && !row_nulls[i] && delays[i].month == 0 &&
			wanted[i] >= 1000 && wanted[i] <= WAIT_MAX;
	}
	row_values[2] = Int32GetDatum(max);
	row_nulls[2] = (nulls & 1) != 0;
	fits = fits && wanted[0] <= wanted[1] && (row_nulls[2] || max >= 0);

	call->fcinfo->args[0].value = PointerGetDatum(fuzz_text(input, 0));
	fuzz_check(fuzz_raises(call_argument, call, codes) == !fits);
	if (!fits)
		return;
	strategy = call->result;
	fuzz_check(strategy->min_delay == wanted[0]);
	fuzz_check(strategy->max_delay == wanted[1]);
	fuzz_check(strategy->max_retries == (row_nulls[2] ? -1 : max));
}

static void
try_interval(FuzzInput *input, Call *call)
{
	Interval   *interval = palloc0(sizeof(Interval));
	bool		is_null = fuzz_up_to(input, 15) == 15;
	int64		least = call->kind == 6 ? 1000 : 0;
	int64		most = call->kind == 6 ? PG_INT64_MAX : WAIT_MAX;
	bool		fits;

	interval->time = fuzz_number(input);
	call->fcinfo->args[0].value = IntervalPGetDatum(interval);
	call->fcinfo->args[0].isnull = is_null;
	fits = !is_null && interval->time >= least && interval->time <= most;
	fuzz_check(fuzz_raises(call_argument, call, codes) == !fits);
	fuzz_check(!fits || call->number == interval->time);
}

static void
try_equal(FuzzInput *input)
{
	text	   *a = fuzz_text(input, fuzz_up_to(input, 40));
	text	   *b = fuzz_text(input, fuzz_up_to(input, 40));
	text	   *token = token_generate();

	fuzz_check(token_equal(a, b) ==
			   fuzz_text_is(a, VARDATA_ANY(b), VARSIZE_ANY_EXHDR(b)));
	fuzz_check(token_equal(a, a) && token_equal(b, b));
	fuzz_check(VARSIZE_ANY_EXHDR(token) == 32);
	fuzz_check(strspn(text_to_cstring(token), "0123456789abcdef") == 32);
	fuzz_check(!token_equal(token, token_generate()));
}
