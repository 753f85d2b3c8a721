/*-------------------------------------------------------------------------
 *
 * mirror_comparison.c
 *	  What is known of a comparison of the table with Redis, while it lasts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "mirror_comparison.h"
#include "text_bytes.h"

static HTAB *new_set(MemoryContext context);
static uint64 hash_key(const char *redis_key, int redis_length);

MirrorComparison *
mirror_comparison_new(MirrorDifference difference, void *arg)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "distlock mirror comparison",
												  ALLOCSET_DEFAULT_SIZES);
	MirrorComparison *comparison = MemoryContextAllocZero(context,
														  sizeof(MirrorComparison));

	comparison->difference = difference;
	comparison->arg = arg;
	comparison->context = context;
	comparison->began_at = GetCurrentTimestamp();
	comparison->expected = new_set(context);
	comparison->doubtful = new_set(context);
	return comparison;
}

void
mirror_comparison_free(MirrorComparison *comparison)
{
	MemoryContextDelete(comparison->context);
}

ComparedLock *
mirror_comparison_add(MirrorComparison *comparison, const text *key,
					  const char *redis_key, int redis_length,
					  TimestampTz until, int64 ms, bool doubtful)
{
	int			key_length = text_size(key);
	ComparedLock *lock = MemoryContextAlloc(comparison->context,
											offsetof(ComparedLock, keys) +
											key_length + redis_length);

	lock->until = until;
	lock->ms = ms;
	lock->doubtful = doubtful;
	lock->key_length = key_length;
	lock->redis_length = redis_length;
	memcpy(lock->keys, text_bytes(key), key_length);
	memcpy(lock->keys + key_length, redis_key, redis_length);
	mirror_comparison_expect(comparison, redis_key, redis_length);
	return lock;
}

void
mirror_comparison_doubt(MirrorComparison *comparison, uint64 key_hash)
{
	(void) hash_search(comparison->doubtful, &key_hash, HASH_ENTER, NULL);
}

bool
mirror_comparison_doubts(const MirrorComparison *comparison, uint64 key_hash)
{
	return hash_search(comparison->doubtful, &key_hash, HASH_FIND, NULL) != NULL;
}

void
mirror_comparison_expect(MirrorComparison *comparison, const char *redis_key,
						 int redis_length)
{
	uint64		hash = hash_key(redis_key, redis_length);

	(void) hash_search(comparison->expected, &hash, HASH_ENTER, NULL);
}

bool
mirror_comparison_expects(const MirrorComparison *comparison,
						  const char *redis_key, int redis_length)
{
	uint64		hash = hash_key(redis_key, redis_length);

	return hash_search(comparison->expected, &hash, HASH_FIND, NULL) != NULL;
}

/*
 * Of hashes.
 */
static HTAB *
new_set(MemoryContext context)
{
	HASHCTL		info = {0};

	info.keysize = info.entrysize = sizeof(uint64);
	info.hcxt = context;
	return hash_create("distlock mirror comparison", 64, &info,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static uint64
hash_key(const char *redis_key, int redis_length)
{
	return hash_bytes_extended((const unsigned char *) redis_key, redis_length,
							   0);
}
