/*-------------------------------------------------------------------------
 *
 * token.c
 *	  Tokens: proof of holding a lock.  They are secrets.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "distlock.h"
#include "fail_point.h"
#include "text_bytes.h"
#include "token.h"

#define RANDOM_BYTES_PER_TOKEN	16

/*
 * Asking for random bytes costs 1.2 to 2.5 microseconds whatever the amount,
 * so draw them 4 KiB at a time.
 */
static unsigned char random_pool[4096];
static int	random_pool_next = sizeof(random_pool);
static int	random_pool_pid = 0;	/* a forked child must not go on with it */

text *
token_generate(void)
{
	static const char digits[] = "0123456789abcdef";
	const int	len = 2 * RANDOM_BYTES_PER_TOKEN;
	text	   *token;
	char	   *out;

	if (random_pool_pid != MyProcPid ||
		random_pool_next + RANDOM_BYTES_PER_TOKEN > sizeof(random_pool))
	{
		random_pool_next = sizeof(random_pool);
		if (!pg_strong_random(random_pool, sizeof(random_pool)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values for a token")));
		FAIL_POINT("token_pool_filled");
		random_pool_pid = MyProcPid;
		random_pool_next = 0;
	}

	token = palloc(VARHDRSZ + len);
	SET_VARSIZE(token, VARHDRSZ + len);
	out = VARDATA(token);
	for (int i = 0; i < RANDOM_BYTES_PER_TOKEN; i++)
	{
		unsigned char byte = random_pool[random_pool_next];

		/* What has become a token is not to be found in memory again. */
		random_pool[random_pool_next++] = 0;
		*out++ = digits[byte >> 4];
		*out++ = digits[byte & 0x0f];
	}
	return token;
}

void
token_check(const text *token)
{
	int			len = text_size(token);

	if (len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("token must not be empty")));
	if (len > TOKEN_MAX_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
				 errmsg("token is too long"),
				 errdetail("It has %d bytes; the limit is %d bytes.",
						   len, TOKEN_MAX_BYTES)));
}

/*
 * The time this takes tells nothing of where two tokens differ.
 */
bool
token_equal(const text *a, const text *b)
{
	int			len = text_size(a);
	const char *x = text_bytes(a);
	const char *y = text_bytes(b);
	unsigned char difference = 0;

	if (len != text_size(b))
		return false;
	for (int i = 0; i < len; i++)
		difference |= x[i] ^ y[i];
	return difference == 0;
}
