/*-------------------------------------------------------------------------
 *
 * lease_row.h
 *	  The changes that the row of a key goes through.
 *
 * The caller holds the key lock, has found the row in the open table (or found
 * that there is none), and has decided.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_LEASE_ROW_H
#define DISTLOCK_LEASE_ROW_H

#include "grant.h"
#include "lock_table.h"

/*
 * Grant the lock to the request; row is NULL when the key has none.  Raises
 * 40001 when the transaction could work with stale data under it.
 */
extern void lease_row_grant(LockTable *table, const AcquireRequest *request,
							const LockRow *row, TimestampTz now, Grant *grant);

/*
 * Raise 40001 when this transaction's snapshot may not show the work of the
 * previous holder; when it may not show the grant itself.
 */
extern void lease_row_check_snapshot(LockTable *table, const LockKey *key,
									 const LockRow *row);
extern void lease_row_check_grant_visible(LockTable *table, const LockKey *key,
										  const LockRow *row);

/* Start the ttl anew; returns the new end (DT_NOEND for scope "session"). */
extern TimestampTz lease_row_extend(LockTable *table, const LockKey *key,
									const LockRow *row, int64 ttl,
									TimestampTz now);

/*
 * Free the row; its fence may have been moved on.  Forced: taken away from a
 * holder who may have been at work; the caller notes that (changes.h).
 */
extern void lease_row_free(LockTable *table, const LockKey *key,
						   const LockRow *row, TimestampTz now, bool forced);

/*
 * Free a row whose holder is gone, and note that it has expired; false when
 * somebody else is at it.
 */
extern bool lease_row_purge(LockTable *table, const LockRow *row,
							TimestampTz now);

/* Call at the end of transactions. */
extern void lease_row_at_xact_end(void);

/*
 * Grant the lock again to who holds it: the request has the row's token.  The
 * ttl starts anew, the fence stays; owner and data change where given.
 */
extern void lease_row_renew(LockTable *table, const AcquireRequest *request,
							const LockRow *row, TimestampTz now, Grant *grant);

#endif							/* DISTLOCK_LEASE_ROW_H */
