/*-------------------------------------------------------------------------
 *
 * mirror_script.h
 *	  What is done inside Redis, in Lua.
 *
 * The first key of each is the book, see README.mirror.md.  A claim is text of
 * fixed width, "EPOCH COUNTER SYSTEM"; a fence has 19 digits; a stamp is the
 * counter of a claim.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_MIRROR_SCRIPT_H
#define DISTLOCK_MIRROR_SCRIPT_H

#define FENCE_DIGITS 19
#define COUNTER_DIGITS 16
#define SYSTEM_DIGITS 16		/* of a system identifier, hexadecimal */
#define CLAIM_LENGTH (FENCE_DIGITS + 1 + COUNTER_DIGITS + 1 + SYSTEM_DIGITS)

/* The longest cursor, a number of 64 bits. */
#define MAX_CURSOR 20

/* Keys, or fields of the book, that one call deals with. */
#define KEYS_PER_CALL 64

typedef enum MirrorScript
{
	/*
	 * epoch, least counter, system: {the new claim, ""}; or, when it cannot
	 * be written, {the old one, why}; or an error, that begins with
	 * SUPERSEDED when there is a newer epoch, with OCCUPIED when the same is
	 * another system's.
	 */
	SCRIPT_CLAIM,

	/*
	 * claim, and for each key fence, milliseconds and value, or 0 and nothing
	 * to delete it: {one letter for each key, the first error or ""}.  An
	 * error that begins with LOST when there is no claim, with SUPERSEDED
	 * when there is another.
	 */
	SCRIPT_WRITE,

	/* claim, cursor: the next cursor.  What has an older stamp is deleted. */
	SCRIPT_SWEEP,

	/*
	 * a value for each key: for each a letter, and the milliseconds left.
	 */
	SCRIPT_COMPARE,

	/* cursor: {the next cursor, those of our keys that are there} */
	SCRIPT_LIST
} MirrorScript;

#define NUM_SCRIPTS (SCRIPT_LIST + 1)

/* Letters of SCRIPT_WRITE. */
#define WRITE_DONE 'k'
#define WRITE_CONFLICT 'c'		/* another program's value */
#define WRITE_OLD 'o'			/* this claim has written a newer fence */
#define WRITE_ERROR 'e'

/* Letters of SCRIPT_COMPARE. */
#define COMPARE_EQUAL 'k'
#define COMPARE_MISSING 'm'
#define COMPARE_DIFFERENT 'd'	/* ours, but another value */
#define COMPARE_FOREIGN 'f'

extern const char *mirror_script(MirrorScript script);

#endif							/* DISTLOCK_MIRROR_SCRIPT_H */
