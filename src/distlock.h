/*-------------------------------------------------------------------------
 *
 * distlock.h
 *	  The types that all parts of distlock share, and its limits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_H
#define DISTLOCK_H

#include "datatype/timestamp.h"

#include "compat.h"

/* Limits of what a caller may pass, in bytes. */
#define KEY_MAX_BYTES		512
#define TOKEN_MAX_BYTES		256
#define OWNER_MAX_BYTES		256
#define DATA_MAX_BYTES		4096

/* How many mirrors a database can have, and how long their names are. */
#define MAX_MIRRORS			4
#define MIRROR_NAME_SIZE	320

/* The longest time anybody may ask to wait: 24 hours, in microseconds. */
#define WAIT_MAX			(24 * USECS_PER_HOUR)

/* The name of a lock. */
typedef struct LockKey
{
	text	   *value;			/* detoasted, 1 to KEY_MAX_BYTES bytes */
	const char *bytes;			/* into value, not terminated */
	int			len;
	uint64		hash;			/* identifies the key to the lock manager */
} LockKey;

/* When a holder is in sight; the values are those of the column "scope". */
typedef enum LockScope
{
	SCOPE_LEASE = 'l',			/* at acquire and at each extend */
	SCOPE_SESSION = 's',		/* as long as the session lives */
	SCOPE_TRANSACTION = 't'		/* until its transaction ends */
} LockScope;

/* What can happen to a lock. */
typedef enum EventKind
{
	EVENT_GRANTED,
	EVENT_EXTENDED,
	EVENT_RELEASED,
	EVENT_EXPIRED,				/* its time was over, or its session gone */
	EVENT_FORCED,				/* taken over or released by force */
	EVENT_EXPIRING				/* will expire, unless it is extended */
} EventKind;

/* A row of the lock table. */
typedef struct LockRow
{
	text	   *key;
	text	   *token;			/* NULL when the lock is free */
	text	   *owner;			/* may be NULL */
	text	   *data;			/* may be NULL */
	int64		fence;
	int64		ttl;			/* microseconds */
	TimestampTz acquired_at;
	TimestampTz expires_at;		/* DT_NOEND for scope "session" */
	TimestampTz incarnation;	/* of the server, for scope "session"; else 0 */
	int32		pid;
	Oid			role;
	int16		permit;			/* 0 for an exclusive lock */
	LockScope	scope;
} LockRow;

#endif							/* DISTLOCK_H */
