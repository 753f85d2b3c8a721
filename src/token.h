/*-------------------------------------------------------------------------
 *
 * token.h
 *	  Tokens: proof of holding a lock.  They are secrets.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_TOKEN_H
#define DISTLOCK_TOKEN_H

/* A new token of 128 random bits as 32 hexadecimal digits; palloc'd. */
extern text *token_generate(void);

/* Raises 22023 when the token is empty, 22001 when it is too long. */
extern void token_check(const text *token);

extern bool token_equal(const text *a, const text *b);

#endif							/* DISTLOCK_TOKEN_H */
