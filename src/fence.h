/*-------------------------------------------------------------------------
 *
 * fence.h
 *	  Fencing numbers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_FENCE_H
#define DISTLOCK_FENCE_H

/*
 * The next fence, greater than all before and than "above".  The caller holds
 * the key lock in Exclusive mode, so that the fences of a key grow in the
 * order of commits.  A crash does not bring the number back, whether it
 * reaches the disk or not.
 */
extern int64 fence_next(int64 above);

/* Begin a new epoch; all later fences are greater than the result. */
extern int64 fence_advance(void);

/*
 * The epoch of this incarnation of the data, which is begun if it has not been
 * yet; 0 for the first.
 */
extern int64 fence_epoch(void);

/* Note the incarnation of the data, when the extension is created. */
extern void fence_record_incarnation(void);

#endif							/* DISTLOCK_FENCE_H */
