/*-------------------------------------------------------------------------
 *
 * row_json.h
 *	  What is said of a lock in JSON, by events and in Redis.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_ROW_JSON_H
#define DISTLOCK_ROW_JSON_H

#include "distlock.h"
#include "lib/stringinfo.h"

/* Append "fence":N,"owner":TEXT; owner can be null. */
extern void row_json_append(StringInfo out, const LockRow *row);

/* Append a time of UTC, as a string. */
extern void row_json_append_time(StringInfo out, TimestampTz time);

#endif							/* DISTLOCK_ROW_JSON_H */
