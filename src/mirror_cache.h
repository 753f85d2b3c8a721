/*-------------------------------------------------------------------------
 *
 * mirror_cache.h
 *	  What was sent to a mirror last, of as many locks as there is room for.
 *
 * It spares sending a whole page of locks for each that changes.  Of a lock that
 * is not in it, nothing is known.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_MIRROR_CACHE_H
#define DISTLOCK_MIRROR_CACHE_H

#include "distlock.h"

/*
 * A fence says which key it is of, so that a hash is enough.  Who holds it again
 * with the same token keeps the fence; the rest may change.
 */
typedef struct MirrorSent
{
	uint64		key_hash;
	int64		fence;			/* 0: nothing is known */
	TimestampTz until;			/* 0: that it is not held */
	uint32		rest_hash;		/* of owner, and the ttl of a session's lock */
	int64		renew_at;		/* steady_now(): to be sent again then; 0:
								 * never */
} MirrorSent;

typedef struct MirrorCache MirrorCache;

extern MirrorCache *mirror_cache_new(void);
extern void mirror_cache_free(MirrorCache *cache);

/* Forget everything; forget a lock. */
extern void mirror_cache_clear(MirrorCache *cache);
extern void mirror_cache_forget(MirrorCache *cache, uint64 key_hash);

/* What was sent of this lock; NULL when it is not known. */
extern const MirrorSent *mirror_cache_find(const MirrorCache *cache,
										   uint64 key_hash);
extern void mirror_cache_put(MirrorCache *cache, const MirrorSent *sent);

#endif							/* DISTLOCK_MIRROR_CACHE_H */
