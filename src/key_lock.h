/*-------------------------------------------------------------------------
 *
 * key_lock.h
 *	  Heavyweight locks on keys, and on their queues.
 *
 * Protocol.  A key lock is held to the end of the transaction by whoever
 * changed the key's row, and by nobody else:
 *
 *	  AccessExclusive			acquire with scope "transaction", which is held by
 *								this and not by a row
 *	  Exclusive					acquire, release, force, purge
 *	  ShareUpdateExclusive		extend, ensure, renewing a lock one holds
 *	  RowShare					guard
 *
 * The queue lock of a key is held by the head of its queue (Exclusive) for as
 * long as it waits, and by newcomers (Share) while they ask for the key lock
 * without waiting: with a head there, they are turned away.
 *
 * All locks here belong to the current (sub)transaction and not to the portal
 * that runs, so that what one call took, another can let go of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_KEY_LOCK_H
#define DISTLOCK_KEY_LOCK_H

#include "access/xact.h"
#include "key.h"
#include "storage/lockdefs.h"

/* Does this transaction hold the key lock, in whatever mode? */
extern bool key_lock_held(const LockKey *key);

/* How many keys has it locked? */
extern int	key_lock_count(void);

/*
 * Take the key lock, without waiting or waiting as long as it takes.  Both
 * raise 54000 when the transaction has too many keys locked, and 53200 when
 * the shared lock table is full.
 */
extern bool key_lock_try(const LockKey *key, LOCKMODE mode);
extern void key_lock_wait(const LockKey *key, LOCKMODE mode);

/* The same without errors, for work that nobody asked for. */
extern bool key_lock_try_quietly(const LockKey *key, LOCKMODE mode);

/* Undo one key_lock_try or key_lock_wait. */
extern void key_lock_let_go(const LockKey *key, LOCKMODE mode);

/* Does another transaction hold the key with scope "transaction"? */
extern bool key_lock_is_hold(const LockKey *key);

/* Is a guard all that is in the way of a change of hands? */
extern bool key_lock_is_guarded_only(const LockKey *key);

/*
 * The process of another transaction that holds the key lock in a mode that
 * conflicts with this one; 0 when there is none, -1 for a prepared one.
 */
extern int	key_lock_blocker(const LockKey *key, LOCKMODE mode);

/*
 * Pass by the queue; false when somebody waits in it.  Quietly: and when the
 * shared lock table is full.
 */
extern bool queue_lock_pass(const LockKey *key);
extern bool queue_lock_pass_quietly(const LockKey *key);
extern void queue_lock_passed(const LockKey *key);

/* Stand at the head of the queue, if nobody else does or waits to. */
extern bool queue_lock_try(const LockKey *key);
extern void queue_lock_wait(const LockKey *key);
extern void queue_lock_let_go(const LockKey *key);

/* Wake the head of the queue, if there is one. */
extern void queue_lock_wake_head(uint64 key_hash);

/* Leave notes for the view of waiters, and take them away again. */
extern void queue_note_put(TimestampTz since, TimestampTz until);
extern void queue_note_remove(TimestampTz since, TimestampTz until);

/* The right to begin an epoch of fences, one at a time (fence.c). */
extern void epoch_lock_take(void);
extern void epoch_lock_let_go(void);

/* Keep account of the keys locked; call at the events of transactions. */
extern void key_lock_at_subxact_end(bool committed);
extern void key_lock_at_xact_end(void);

#endif							/* DISTLOCK_KEY_LOCK_H */
