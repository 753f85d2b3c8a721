/*-------------------------------------------------------------------------
 *
 * not_granted.c
 *	  The error of an acquisition that was refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "errors.h"
#include "not_granted.h"

/*
 * Raise 55P03 saying who holds the lock and for how long.
 */
void
error_not_granted(const LockKey *key, const Refusal *refusal)
{
	const char *message = gettext_noop("lock \"%s\" could not be acquired");

	switch (refusal->reason)
	{
		case REFUSED_HELD:
			if (refusal->remaining < 0)
				ereport(ERROR,
						(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						 errmsg(message, error_key(key)),
						 refusal->owner ?
						 errdetail("It is held by \"%s\" (process %d), as long as that session lives.",
								   text_to_cstring(refusal->owner), refusal->pid) :
						 errdetail("It is held by process %d, as long as that session lives.",
								   refusal->pid),
						 errhint("Wait for it with the argument wait, or try again later.")));
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg(message, error_key(key)),
					 refusal->owner ?
					 errdetail("It is held by \"%s\" (acquired by process %d), for another " INT64_FORMAT " ms.",
							   text_to_cstring(refusal->owner), refusal->pid,
							   refusal->remaining / 1000) :
					 errdetail("It is held (acquired by process %d), for another " INT64_FORMAT " ms.",
							   refusal->pid, refusal->remaining / 1000),
					 errhint("Wait for it with the argument wait, or try again later.")));
			break;
		case REFUSED_CHANGING:
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg(message, error_key(key)),
					 refusal->pid > 0 ?
					 errdetail("Process %d has it locked in a transaction that has not ended.",
							   refusal->pid) :
					 errdetail("A transaction that is prepared, or has just ended, has it locked."),
					 errhint("Wait for it with the argument wait, or try again later.")));
			break;
		case REFUSED_TRANSACTION:
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg(message, error_key(key)),
					 refusal->pid > 0 ?
					 errdetail("It is held until the end of its transaction by process %d.",
							   refusal->pid) :
					 errdetail("It is held by a prepared transaction."),
					 errhint("Wait for it with the argument wait, or try again later.")));
			break;
		case REFUSED_OWN:
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg(message, error_key(key)),
					 errdetail("This transaction holds it already."),
					 errhint("Release it first, or use acquire_with_token with its token.")));
			break;
		case REFUSED_OWN_SESSION:
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg(message, error_key(key)),
					 errdetail("This session holds it, under another token or scope."),
					 errhint("Release it first.")));
			break;
		case REFUSED_QUEUE:
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg(message, error_key(key)),
					 errdetail("Others are waiting for it."),
					 errhint("Join them with the argument wait, or try again later.")));
			break;
	}
	pg_unreachable();
}
