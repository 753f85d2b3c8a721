/*-------------------------------------------------------------------------
 *
 * errors.c
 *	  Errors that more than one part of distlock raises.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "mb/pg_wchar.h"

#include "errors.h"

/* More of a key than this is not shown in a message. */
#define SHOWN_KEY_BYTES 128

char *
error_key(const LockKey *key)
{
	int			len;

	if (key->len <= SHOWN_KEY_BYTES)
		return pnstrdup(key->bytes, key->len);

	len = pg_mbcliplen(key->bytes, key->len, SHOWN_KEY_BYTES);

	/*
	 * A database with no encoding knows no characters, but its client may:
	 * half of one in UTF-8 would give it an error about that instead.
	 */
	if (GetDatabaseEncoding() == PG_SQL_ASCII)
	{
		for (int i = 0; i < 3 && (key->bytes[len] & 0xC0) == 0x80; i++)
			len--;
	}
	return psprintf("%.*s...", len, key->bytes);
}

void
error_not_held(const LockKey *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_HELD),
			 errmsg("lock \"%s\" is not held with this token",
					error_key(key)),
			 errdetail("It has expired, has been released or forced, or is held by another."),
			 errhint("If it was held before, work done since it was lost may overlap with another holder's.")));
}

/*
 * Call this before any lock is taken, so that a refusal leaves nothing.
 */
void
error_unless_writable(const char *what)
{
	error_if_in_recovery(what);
	if (XactReadOnly)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s in a read-only transaction", what),
				 errhint("Use a read-write transaction.")));
	error_if_parallel(what);
}

void
error_if_in_recovery(const char *what)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s during recovery", what),
				 errhint("Connect to the primary server.")));
}

void
error_if_parallel(const char *what)
{
	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot execute %s during a parallel operation", what),
				 errhint("Do not call it from a function that is labeled PARALLEL SAFE or PARALLEL RESTRICTED.")));
}
