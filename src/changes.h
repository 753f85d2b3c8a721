/*-------------------------------------------------------------------------
 *
 * changes.h
 *	  What a transaction has done to locks, until it ends.
 *
 * When it commits, each change is announced (events.h), if that is wished for,
 * and counted (stats.h).  A change that is rolled back, also to a savepoint, was
 * never made.  A transaction that is prepared announces nothing, since
 * PostgreSQL has no notifications for those, and is counted when it is prepared.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_CHANGES_H
#define DISTLOCK_CHANGES_H

#include "distlock.h"

/*
 * Note a change.  The row is the holder's: of a loss, as it was before.  "at" is
 * when it happened, which for an expiry is earlier than when it was noticed.
 */
extern void changes_add(EventKind kind, const LockRow *row, TimestampTz at);

extern void changes_at_pre_commit(void);
extern void changes_at_xact_end(bool committed, bool announced);
extern void changes_at_subxact_end(bool committed);

#endif							/* DISTLOCK_CHANGES_H */
