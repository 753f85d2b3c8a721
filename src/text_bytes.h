/*-------------------------------------------------------------------------
 *
 * text_bytes.h
 *	  What is in a text, whatever header it has.
 *
 * Of those that we have detoasted, or read from a row: none of them is compressed,
 * or stored elsewhere.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_TEXT_BYTES_H
#define DISTLOCK_TEXT_BYTES_H

/* The bytes, and how many; they do not end with a zero. */
static inline char *
text_bytes(const text *value)
{
	return VARDATA_ANY(value);
}

static inline int
text_size(const text *value)
{
	return VARSIZE_ANY_EXHDR(value);
}

/* A copy in the current memory context; NULL of NULL. */
static inline text *
text_copy(const text *value)
{
	text	   *copy;

	if (value == NULL)
		return NULL;
	copy = palloc(VARSIZE_ANY(value));
	memcpy(copy, value, VARSIZE_ANY(value));
	return copy;
}

#endif							/* DISTLOCK_TEXT_BYTES_H */
