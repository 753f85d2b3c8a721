/*-------------------------------------------------------------------------
 *
 * mirror_cache.c
 *	  What was sent to a mirror last, of as many locks as there is room for.
 *
 * Each lock has a few places where it can be, out of one of which it drives
 * another if need be.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "mirror_cache.h"

/* A megabyte. */
#define NUM_SETS 8192
#define SET_SIZE 4

struct MirrorCache
{
	uint32		next_victim;
	MirrorSent	places[NUM_SETS][SET_SIZE];
};

static MirrorSent *find(MirrorCache *cache, uint64 key_hash);

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
	MirrorSent *sent = find(cache, key_hash);

	if (sent != NULL)
		sent->fence = 0;
}

const MirrorSent *
mirror_cache_find(const MirrorCache *cache, uint64 key_hash)
{
	return find(unconstify(MirrorCache *, cache), key_hash);
}

void
mirror_cache_put(MirrorCache *cache, const MirrorSent *sent)
{
	MirrorSent *set = cache->places[sent->key_hash % NUM_SETS];
	MirrorSent *place = find(cache, sent->key_hash);

	for (int i = 0; i < SET_SIZE && place == NULL; i++)
	{
		if (set[i].fence == 0)
			place = &set[i];
	}
	if (place == NULL)
		place = &set[cache->next_victim++ % SET_SIZE];
	*place = *sent;
}

static MirrorSent *
find(MirrorCache *cache, uint64 key_hash)
{
	MirrorSent *set = cache->places[key_hash % NUM_SETS];

	for (int i = 0; i < SET_SIZE; i++)
	{
		if (set[i].fence != 0 && set[i].key_hash == key_hash)
			return &set[i];
	}
	return NULL;
}
