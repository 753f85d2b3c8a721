/*-------------------------------------------------------------------------
 *
 * look.h
 *	  What a look at a lock's row, without the key lock, tells.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_LOOK_H
#define DISTLOCK_LOOK_H

#include "lease.h"
#include "lock_table.h"

/* Open the table, look, and close it. */
extern void look_at(const LockKey *key, LockLook *look);

/*
 * Who holds the lock, committed or not; NULL for nobody.  A session may end at
 * any moment, so that asking again can give another answer.
 */
extern const LockRow *look_holder(const LockLook *look, TimestampTz now);

/* Is it held with the token that is asked for, in the same scope? */
extern bool look_is_own(const AcquireRequest *request, const LockLook *look,
						TimestampTz now);

/* Is it held by what is committed and nobody is changing, except to extend it? */
extern bool look_is_settled(const LockLook *look, TimestampTz now);

#endif							/* DISTLOCK_LOOK_H */
