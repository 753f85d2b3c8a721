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

#include "lease.h"
#include "lock_table.h"

/*
 * Grant the lock to the request; row is NULL when the key has none.  Raises
 * 40001 when the transaction could work with stale data under it.
 */
extern void lease_row_grant(LockTable *table, const AcquireRequest *request,
							const LockRow *row, TimestampTz now, Grant *grant);

extern void lease_row_extend(LockTable *table, const LockKey *key,
							 const LockRow *row, int64 ttl,
							 TimestampTz expires_at);

/* Free the row; its fence may have been moved on. */
extern void lease_row_free(LockTable *table, const LockKey *key,
						   const LockRow *row, TimestampTz now);

/*
 * Grant the lock again to who holds it: the request has the row's token.  The
 * ttl starts anew, the fence stays; owner and data change where given.
 */
extern void lease_row_renew(LockTable *table, const AcquireRequest *request,
							const LockRow *row, TimestampTz now, Grant *grant);

#endif							/* DISTLOCK_LEASE_ROW_H */
