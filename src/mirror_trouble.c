/*-------------------------------------------------------------------------
 *
 * mirror_trouble.c
 *	  The locks that Redis has refused, and not taken since.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "mirror_trouble.h"

/* More than these are not counted. */
#define MAX_TROUBLES 10000

typedef struct Trouble
{
	uint64		key_hash;
	bool		conflict;
	bool		doubtful;
} Trouble;

static Trouble *find(MirrorTroubles *troubles, uint64 key_hash);
static int64 *counter(MirrorTroubles *troubles, const Trouble *trouble);

void
mirror_troubles_init(MirrorTroubles *troubles)
{
	HASHCTL		info = {0};

	info.keysize = sizeof(uint64);
	info.entrysize = sizeof(Trouble);
	info.hcxt = TopMemoryContext;
	troubles->locks = hash_create("distlock mirror troubles", 64, &info,
								  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	troubles->conflicts = troubles->refused = 0;
	troubles->refused_anew = false;
}

void
mirror_troubles_free(MirrorTroubles *troubles)
{
	hash_destroy(troubles->locks);
}

void
mirror_trouble_add(MirrorTroubles *troubles, uint64 key_hash, bool conflict)
{
	Trouble    *trouble;

	mirror_trouble_remove(troubles, key_hash);
	troubles->refused_anew = troubles->refused_anew || !conflict;
	if (hash_get_num_entries(troubles->locks) >= MAX_TROUBLES)
		return;
	trouble = hash_search(troubles->locks, &key_hash, HASH_ENTER, NULL);
	trouble->conflict = conflict;
	trouble->doubtful = false;
	(*counter(troubles, trouble))++;
}

void
mirror_trouble_remove(MirrorTroubles *troubles, uint64 key_hash)
{
	Trouble    *trouble = find(troubles, key_hash);

	if (trouble == NULL)
		return;
	(*counter(troubles, trouble))--;
	(void) hash_search(troubles->locks, &key_hash, HASH_REMOVE, NULL);
}

void
mirror_troubles_doubt(MirrorTroubles *troubles)
{
	HASH_SEQ_STATUS scan;
	Trouble    *trouble;

	hash_seq_init(&scan, troubles->locks);
	while ((trouble = hash_seq_search(&scan)) != NULL)
		trouble->doubtful = true;
	troubles->refused_anew = false;
}

void
mirror_troubles_settle(MirrorTroubles *troubles)
{
	HASH_SEQ_STATUS scan;
	Trouble    *trouble;

	hash_seq_init(&scan, troubles->locks);
	while ((trouble = hash_seq_search(&scan)) != NULL)
	{
		if (trouble->doubtful)
			mirror_trouble_remove(troubles, trouble->key_hash);
	}
}

static Trouble *
find(MirrorTroubles *troubles, uint64 key_hash)
{
	return hash_search(troubles->locks, &key_hash, HASH_FIND, NULL);
}

static int64 *
counter(MirrorTroubles *troubles, const Trouble *trouble)
{
	return trouble->conflict ? &troubles->conflicts : &troubles->refused;
}
