/*-------------------------------------------------------------------------
 *
 * key.h
 *	  Keys: the names of locks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_KEY_H
#define DISTLOCK_KEY_H

#include "distlock.h"
#include "storage/lock.h"

/*
 * What a heavyweight lock on a key stands for.  The values are the fourth
 * field of an advisory lock's tag (objsubid in pg_locks), in which the user's
 * own advisory locks have 1 and 2.
 */
typedef enum KeyLockClass
{
	CLASS_KEY = 0x4c00,			/* the right to change the key's rows */
	CLASS_QUEUE = 0x4c01,		/* the queue of those who wait for the key */
	CLASS_WAIT_SINCE = 0x4c02,	/* a note: since when this process waits */
	CLASS_WAIT_UNTIL = 0x4c03,	/* a note: until when it waits */
	CLASS_EPOCH = 0x4c04,		/* the right to begin an epoch of fences */
	CLASS_SESSION = 0x4c05,		/* a session that holds a fence lives */
	CLASS_SESSION_2 = 0x4c06	/* the same, see session_lock.c */
} KeyLockClass;

/*
 * Make a key of a value.  Raises 22023 when it is empty, 22001 when it has
 * more than KEY_MAX_BYTES bytes.
 */
extern void key_init(LockKey *key, text *value);

/* The same for a value that was checked when it was stored. */
extern void key_from_stored(LockKey *key, text *value);

extern bool key_equal(const LockKey *a, const LockKey *b);

extern void key_lock_tag(LOCKTAG *tag, uint64 number, KeyLockClass class);

#endif							/* DISTLOCK_KEY_H */
