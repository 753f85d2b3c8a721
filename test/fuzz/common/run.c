/*-------------------------------------------------------------------------
 *
 * run.c
 *	  One run of a target, and what it takes of its input.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include <signal.h>

#include "miscadmin.h"
#include "utils/memutils.h"

int			LLVMFuzzerInitialize(int *argc, char ***argv);
int			LLVMFuzzerTestOneInput(const unsigned char *data, size_t length);

/*
 * As every process of the server does.
 */
int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t length)
{
	FuzzInput	input = {data, length};

	MemoryContext context = CurrentMemoryContext;

	fuzz_reset_time();
	memset(&fuzz_error, 0, sizeof(fuzz_error));
	fuzz_one(&input);
	fuzz_check(CurrentMemoryContext == context);
	fuzz_check(PG_exception_stack == NULL);
	MemoryContextReset(CurrentMemoryContext);
	MemoryContextReset(TopTransactionContext);
	return 0;
}

#ifdef FUZZ_REPLAY
/*
 * Instead of libFuzzer: run these inputs.
 */
int
main(int argc, char **argv)
{
	static unsigned char data[1024 * 1024];

	LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 1; i < argc; i++)
	{
		FILE	   *file = fopen(argv[i], "r");

		fuzz_check(file != NULL);
		LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof(data), file));
		fclose(file);
	}
	return 0;
}
#endif

void
fuzz_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
	abort();
}

int
fuzz_byte(FuzzInput *input)
{
	if (input->length == 0)
		return 0;
	input->length--;
	return *input->data++;
}

/*
 * A byte that says how many follow; or stands for a number at some limit.
 */
int64
fuzz_number(FuzzInput *input)
{
	static const int64 special[] = {
		0, 1, -1, PG_INT64_MAX, PG_INT64_MIN, PG_INT32_MAX, PG_INT32_MIN,
		999, 1000, 1001, WAIT_MAX - 1, WAIT_MAX, WAIT_MAX + 1,
		USECS_PER_DAY, -USECS_PER_DAY, MIN_TIMESTAMP, END_TIMESTAMP,
		END_TIMESTAMP - 1, PG_INT64_MAX / 2
	};
	int			kind = fuzz_byte(input);
	uint64		number = 0;

	if (kind >= 8)
		return special[kind % lengthof(special)];
	for (int i = 0; i <= kind; i++)
		number = number << 8 | fuzz_byte(input);
	/* Extend the sign. */
	if (kind < 7 && (number >> (8 * kind + 7)) != 0)
		number |= ~UINT64CONST(0) << (8 * (kind + 1));
	return (int64) number;
}

int
fuzz_up_to(FuzzInput *input, int limit)
{
	int			number = fuzz_byte(input);

	if (limit > 255)
		number = number << 8 | fuzz_byte(input);
	return number % (limit + 1);
}

char *
fuzz_bytes(FuzzInput *input, size_t *length)
{
	char	   *result;

	*length = Min(*length, input->length);
	result = palloc(*length);
	memcpy(result, input->data, *length);
	input->data += *length;
	input->length -= *length;
	return result;
}

char *
fuzz_string(FuzzInput *input)
{
	size_t		length = strnlen((const char *) input->data, input->length);
	char	   *result = palloc(length + 1);

	memcpy(result, input->data, length);
	result[length] = '\0';
	input->data += length;
	input->length -= length;
	(void) fuzz_byte(input);
	return result;
}

text *
fuzz_text(FuzzInput *input, size_t length)
{
	bool		is_short = (fuzz_byte(input) & 1) != 0;
	char	   *bytes = fuzz_bytes(input, &length);
	text	   *result;

	if (is_short && length <= VARATT_SHORT_MAX - VARHDRSZ_SHORT)
	{
		result = palloc(length + VARHDRSZ_SHORT);
		SET_VARSIZE_SHORT(result, length + VARHDRSZ_SHORT);
	}
	else
	{
		result = palloc(length + VARHDRSZ);
		SET_VARSIZE(result, length + VARHDRSZ);
	}
	memcpy(VARDATA_ANY(result), bytes, length);
	return result;
}

bool
fuzz_text_is(const text *value, const char *bytes, size_t length)
{
	return VARSIZE_ANY_EXHDR(value) == length &&
		memcmp(VARDATA_ANY(value), bytes, length) == 0;
}
