/*-------------------------------------------------------------------------
 *
 * session_lock.h
 *	  Locks of scope "session": whether their holders live.
 *
 * Protocol.  Who holds a lock of scope "session" has its row, and holds the
 * session lock of its fence (Share, at session level) as long as the session
 * lives.  Whoever wants to know asks for it in RowExclusive mode, which
 * conflicts with holders only, and lets go of it at once.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_SESSION_LOCK_H
#define DISTLOCK_SESSION_LOCK_H

#include "distlock.h"

/*
 * Take the session lock of a fence, before the row says so; let go of if the
 * (sub)transaction rolls back.
 */
extern void session_lock_take(int64 fence);

/* Let go of it when the transaction commits, or now. */
extern void session_lock_drop_at_commit(int64 fence);
extern void session_lock_drop(int64 fence);

extern bool session_lock_is_own(int64 fence);
extern bool session_lock_is_held(int64 fence);

/* Wait in the lock manager until nobody holds it. */
extern void session_lock_wait(int64 fence);

/* Call at the events of transactions. */
extern void session_lock_at_pre_prepare(void);
extern void session_lock_at_subxact_end(bool committed);
extern void session_lock_at_xact_abort(void);
extern void session_lock_at_locks_released(void);

#endif							/* DISTLOCK_SESSION_LOCK_H */
