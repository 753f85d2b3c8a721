/*-------------------------------------------------------------------------
 *
 * redis_key.h
 *	  How the locks are called in Redis.
 *
 * A template has {key}, once, and may have {database} and {index}.  In the name
 * of the database, "%" and ":" become %25 and %3A, so that the keys of two
 * databases never meet: not even of "a" and "a:b", by "distlock:{database}:{key}".
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_REDIS_KEY_H
#define DISTLOCK_REDIS_KEY_H

#include "lib/stringinfo.h"

#include "distlock.h"

/* The template that is meant: profiles have names. */
extern const char *redis_key_template(const char *setting);

/* NULL when it is one, or else what is wrong. */
extern const char *redis_key_check_template(const char *setting);

/* Are there several Redis keys for a lock? */
extern bool redis_key_is_indexed(const char *template);

/* Append the Redis key of this lock, or with key NULL the name of the book. */
extern void redis_key_append(StringInfo out, const char *template,
							 const char *database, const text *key,
							 int index);

#endif							/* DISTLOCK_REDIS_KEY_H */
