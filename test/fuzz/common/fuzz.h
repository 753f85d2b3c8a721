/*-------------------------------------------------------------------------
 *
 * fuzz.h
 *	  What the fuzz targets have in common.
 *
 * A target is a file TARGET.c in the directory above, with the test, and those of
 * src/ that it names in its first comment, as they are.  What these call of the
 * server is here, or in the target; string buffers, sums and formats are PostgreSQL's
 * own, from libpgcommon and libpgport.  What no target reaches is nowhere: the
 * linker lets that be, and to call it is to crash, which is a finding.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_FUZZ_H
#define DISTLOCK_FUZZ_H

#include "postgres.h"

#include "distlock.h"

/* The input, of which bytes are taken from the front. */
typedef struct FuzzInput
{
	const unsigned char *data;
	size_t		length;
} FuzzInput;

/* One run, in a memory context of its own: what each target defines. */
extern void fuzz_one(FuzzInput *input);

/* Zero, or nothing, at the end of the input. */
extern int	fuzz_byte(FuzzInput *input);
extern int64 fuzz_number(FuzzInput *input);

/* A number up to the limit. */
extern int	fuzz_up_to(FuzzInput *input, int limit);

/*
 * Palloc'd to the byte: so many bytes or what there is; all up to the next zero
 * byte; a text, with a short header or a long one, as they come.
 */
extern char *fuzz_bytes(FuzzInput *input, size_t *length);
extern char *fuzz_string(FuzzInput *input);
extern text *fuzz_text(FuzzInput *input, size_t length);

/* Does this text have just that?  And is this in it? */
extern bool fuzz_text_is(const text *value, const char *bytes, size_t length);

/* The last error. */
typedef struct FuzzError
{
	int			code;
	char		message[4096];
	char		detail[4096];
	char		hint[4096];
} FuzzError;

extern FuzzError fuzz_error;

/*
 * Call it, and catch an error: true if there was one.  It has to have one of
 * these codes, up to the first 0.
 */
extern bool fuzz_raises(void (*call) (void *arg), void *arg, const int *codes);

/* The time, of the wall and of the steady clock, which stand still otherwise. */
extern void fuzz_reset_time(void);
extern void fuzz_pass_time(int64 microseconds);

/* How many allocations there are in TopMemoryContext. */
extern int	fuzz_top_chunks(void);

/* Of a promise that does not hold. */
pg_noreturn extern void fuzz_fail(const char *file, int line,
								  const char *what);

#define fuzz_check(promise) \
	((promise) ? (void) 0 : fuzz_fail(__FILE__, __LINE__, #promise))

#endif							/* DISTLOCK_FUZZ_H */
