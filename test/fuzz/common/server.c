/*-------------------------------------------------------------------------
 *
 * server.c
 *	  Time, chance and texts.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include <time.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* PostgreSQL's 2000-01-01, and a day in 2025, in microseconds. */
#define EPOCH_OFFSET (INT64CONST(946684800) * USECS_PER_SEC)
#define BEGINNING (INT64CONST(800000000) * USECS_PER_SEC)

static int64 clock_now = BEGINNING;

int			MyProcPid = 4711;

void
fuzz_reset_time(void)
{
	clock_now = BEGINNING;
}

void
fuzz_pass_time(int64 microseconds)
{
	clock_now += microseconds;
}

TimestampTz
GetCurrentTimestamp(void)
{
	return clock_now;
}

/* By this name the fuzzed code calls clock_gettime(). */
int			fuzz_clock_gettime(clockid_t clock, struct timespec *time);

int
fuzz_clock_gettime(clockid_t clock, struct timespec *time)
{
	int64		now = clock_now + EPOCH_OFFSET;

	time->tv_sec = now / USECS_PER_SEC;
	time->tv_nsec = now % USECS_PER_SEC * 1000;
	return 0;
}

/*
 * Not random at all, so that a run can be repeated.
 */
bool
pg_strong_random(void *out, size_t length)
{
	static uint64 state = 1;

	for (size_t i = 0; i < length; i++)
	{
		state = state * UINT64CONST(6364136223846793005) + 1442695040888963407;
		((unsigned char *) out)[i] = state >> 56;
	}
	return true;
}

/*
 * Nothing here is compressed or out of line.
 */
struct varlena *
pg_detoast_datum(struct varlena *datum)
{
	struct varlena *result;

	if (!VARATT_IS_SHORT(datum))
		return datum;
	result = palloc(VARSIZE_SHORT(datum) - VARHDRSZ_SHORT + VARHDRSZ);
	SET_VARSIZE(result, VARSIZE_SHORT(datum) - VARHDRSZ_SHORT + VARHDRSZ);
	memcpy(VARDATA(result), VARDATA_SHORT(datum),
		   VARSIZE_SHORT(datum) - VARHDRSZ_SHORT);
	return result;
}

struct varlena *
pg_detoast_datum_packed(struct varlena *datum)
{
	return datum;
}

char *
text_to_cstring(const text *value)
{
	size_t		length = VARSIZE_ANY_EXHDR(value);
	char	   *result = palloc(length + 1);

	memcpy(result, VARDATA_ANY(value), length);
	result[length] = '\0';
	return result;
}

/*
 * By RFC 8259; the server's own is not fuzzed here.
 */
void
escape_json(StringInfo out, const char *string)
{
	appendStringInfoChar(out, '"');
	for (; *string != '\0'; string++)
	{
		if (*string == '"' || *string == '\\')
			appendStringInfo(out, "\\%c", *string);
		else if ((unsigned char) *string < ' ')
			appendStringInfo(out, "\\u%04x", *string);
		else
			appendStringInfoChar(out, *string);
	}
	appendStringInfoChar(out, '"');
}

/*
 * The library's does not look whether there is anything at all, and was not compiled
 * to be watched: it must not be told to copy nothing from nowhere.
 */
void
appendBinaryStringInfo(StringInfo out,
#if PG_VERSION_NUM >= 160000
					   const void *data,
#else
					   const char *data,
#endif
					   int length)
{
	fuzz_check(data != NULL && length >= 0);
	enlargeStringInfo(out, length);
	memcpy(out->data + out->len, data, length);
	out->len += length;
	out->data[out->len] = '\0';
}
