/*-------------------------------------------------------------------------
 *
 * holder.h
 *	  Whether the holder in a row of the lock table holds the lock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_HOLDER_H
#define DISTLOCK_HOLDER_H

#include "distlock.h"

/* Is the lock held, at this time, by the holder in the row? */
extern bool holder_is_live(const LockRow *row, TimestampTz now);

/*
 * When it will end by itself if nobody extends it; DT_NOEND while its session
 * lives.
 */
extern TimestampTz holder_end(const LockRow *row);

/*
 * Of a holder whose session has ended: a time by which it had.  That is known
 * only from looking; this is when this session looked first.
 */
extern TimestampTz holder_seen_ended(const LockRow *row);

/*
 * Of a holder that is not live: when it ended, or when that was noticed if it is
 * not known.
 */
extern TimestampTz holder_ended_at(const LockRow *row, TimestampTz now);

#endif							/* DISTLOCK_HOLDER_H */
