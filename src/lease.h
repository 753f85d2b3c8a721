/*-------------------------------------------------------------------------
 *
 * lease.h
 *	  The rules of leases: who gets a lock, keeps it and gives it back.
 *
 * Everything here is part of the caller's transaction.  A result of false
 * means "not granted" or "not held" and leaves neither change nor lock;
 * errors are raised for what the caller should not have asked (errors.h), for
 * 40001, 54000, and for what the lock manager raises.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_LEASE_H
#define DISTLOCK_LEASE_H

#include "grant.h"

/* Why a lock was not granted. */
typedef enum RefusalReason
{
	REFUSED_HELD,				/* somebody holds it */
	REFUSED_CHANGING,			/* a transaction not ended has the key locked */
	REFUSED_TRANSACTION,		/* a transaction not ended holds it */
	REFUSED_OWN,				/* this transaction holds it */
	REFUSED_OWN_SESSION,		/* this session holds it */
	REFUSED_QUEUE				/* others wait for it */
} RefusalReason;

typedef struct Refusal
{
	RefusalReason reason;
	text	   *owner;			/* of the holder; may be NULL */
	int			pid;			/* of the holder; 0 or less: not known */
	int64		remaining;		/* of the holder's lease, in microseconds; -1:
								 * as long as its session lives */
} Refusal;

extern bool lease_acquire(const AcquireRequest *request, Grant *grant,
						  Refusal *refusal);

/*
 * Let a lease end ttl from now (0: the ttl given before); with only_longer,
 * leave it alone if it ends later anyway.  *expires_at is the result.
 */
extern bool lease_extend(const LockKey *key, const text *token, int64 ttl,
						 bool only_longer, TimestampTz *expires_at);

extern bool lease_release(const LockKey *key, const text *token);

/* For every key held under the token; they return how many. */
extern int	lease_extend_all(const text *token, int64 ttl);
extern int	lease_release_all(const text *token);

/*
 * Of a lock held with this token now: the time left in microseconds (of scope
 * "transaction", the ttl), the fence.
 */
extern bool lease_read_ttl(const LockKey *key, const text *token,
						   int64 *remaining);
extern bool lease_read_fence(const LockKey *key, const text *token,
							 int64 *fence);

/*
 * Pin a lock held with this token to the end of the transaction: nobody can
 * take it over before, even when it expires.  Raises 40001.
 */
extern bool lease_guard(const LockKey *key, const text *token, int64 *fence);

/*
 * Does this transaction hold the lock, in whatever way, so that nobody else
 * can have it before it ends?
 */
extern bool lease_is_covered(const LockKey *key);

/* Is it held by anyone, uncommitted holders included? */
extern bool lease_is_held(const LockKey *key);

/*
 * Whoever holds it.  Raise 55P03 when a transaction that has not ended keeps
 * the key locked.
 */
extern bool lease_force_release(const LockKey *key);
extern void lease_force_acquire(const AcquireRequest *request, Grant *grant);

#endif							/* DISTLOCK_LEASE_H */
