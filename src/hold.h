/*-------------------------------------------------------------------------
 *
 * hold.h
 *	  What this transaction holds until it ends: locks of transaction scope,
 *	  and guards.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_HOLD_H
#define DISTLOCK_HOLD_H

#include "distlock.h"

typedef enum HoldKind
{
	HOLD_LOCK,					/* a lock of transaction scope */
	HOLD_GUARD					/* somebody's lease, pinned */
} HoldKind;

typedef struct Hold
{
	HoldKind	kind;
	LockKey		key;
	text	   *token;
	int64		ttl;			/* as asked for, in microseconds */
	int64		fence;			/* 0: nobody has asked for it yet */
	TimestampTz since;			/* when it was taken */
	bool		idle;			/* the command that it was for has ended */
	int			level;			/* nesting level of the subtransaction */
	int			released_level; /* the same of its release; 0: not released */
	struct Hold *next;			/* another key's or an older one, see hold.c */
} Hold;

/*
 * Note a hold.  The caller holds the key lock to the transaction's end, in
 * AccessExclusive mode for a lock, in RowShare mode for a guard.
 */
extern Hold *hold_add(HoldKind kind, const LockKey *key, const text *token,
					  int64 ttl, int64 fence);

/* A lock not released; with this token, or with any when token is NULL. */
extern Hold *hold_find_lock(const LockKey *key, const text *token);

/* A guard with this token, of a lock not released since. */
extern Hold *hold_find_guard(const LockKey *key, const text *token);

/* Is there a lock or a guard on the key, not released? */
extern bool hold_covers(const LockKey *key);

/* The fence of a hold; it is drawn when first asked for. */
extern int64 hold_fence(Hold *hold);

/* Others have to wait for the end of the transaction all the same. */
extern void hold_release(Hold *hold);

/* The lock that was guarded is gone: nothing is guarded any more. */
extern void hold_release_guards(const LockKey *key);

/* All with this token; how many, and whether to release them. */
extern int	hold_count(const text *token, bool release);

/* Call at the events of transactions. */
extern void hold_at_pre_commit(void);
extern void hold_at_subxact_end(bool committed);
extern void hold_at_xact_end(bool committed);

#endif							/* DISTLOCK_HOLD_H */
