/*-------------------------------------------------------------------------
 *
 * key.c
 *	  Keys: the names of locks.
 *
 * Keys are compared byte by byte.  To the lock manager a key is a 64-bit hash
 * of its bytes; two keys with the same hash get in each other's way, but the
 * row decides who holds what.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"

#include "key.h"
#include "text_bytes.h"

/* Keeps our hashes apart from those of others; any number does. */
#define KEY_HASH_SEED UINT64CONST(0x646973746c6f636b)

void
key_init(LockKey *key, text *value)
{
	int			len = text_size(value);

	if (len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key must not be empty")));
	if (len > KEY_MAX_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
				 errmsg("key is too long"),
				 errdetail("It has %d bytes; the limit is %d bytes.",
						   len, KEY_MAX_BYTES)));
	key_from_stored(key, value);
}

void
key_from_stored(LockKey *key, text *value)
{
	key->value = value;
	key->bytes = text_bytes(value);
	key->len = text_size(value);
	key->hash = hash_bytes_extended((const unsigned char *) key->bytes,
									key->len, KEY_HASH_SEED);
}

bool
key_equal(const LockKey *a, const LockKey *b)
{
	return a->hash == b->hash && a->len == b->len &&
		memcmp(a->bytes, b->bytes, a->len) == 0;
}

/*
 * Make the tag of a lock of ours: an advisory lock of this database.
 */
void
key_lock_tag(LOCKTAG *tag, uint64 number, KeyLockClass class)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId,
						 (uint32) (number >> 32), (uint32) number, class);
}
