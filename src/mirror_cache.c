/*-------------------------------------------------------------------------
 *
 * mirror_cache.c
 *	  What was sent to a mirror last, of as many locks as there is room for.
 *
 * Each lock has one place where it can be, from which it drives others.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "mirror_cache.h"

/* A megabyte. */
#define NUM_PLACES 32768

struct MirrorCache
{
	MirrorSent	places[NUM_PLACES];
};

static MirrorSent *place(MirrorCache *cache, uint64 key_hash);

MirrorCache *
mirror_cache_new(void)
{
	return MemoryContextAllocZero(TopMemoryContext, sizeof(MirrorCache));
}

void
mirror_cache_free(MirrorCache *cache)
{
	pfree(cache);
}

void
mirror_cache_clear(MirrorCache *cache)
{
	memset(cache, 0, sizeof(MirrorCache));
}

void
mirror_cache_forget(MirrorCache *cache, uint64 key_hash)
{
	if (place(cache, key_hash)->key_hash == key_hash)
		place(cache, key_hash)->fence = 0;
}

const MirrorSent *
mirror_cache_find(const MirrorCache *cache, uint64 key_hash)
{
	const MirrorSent *sent = place(unconstify(MirrorCache *, cache), key_hash);

	return sent->fence != 0 && sent->key_hash == key_hash ? sent : NULL;
}

void
mirror_cache_put(MirrorCache *cache, const MirrorSent *sent)
{
	*place(cache, sent->key_hash) = *sent;
}

static MirrorSent *
place(MirrorCache *cache, uint64 key_hash)
{
	return &cache->places[key_hash % NUM_PLACES];
}
