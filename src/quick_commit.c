/*-------------------------------------------------------------------------
 *
 * quick_commit.c
 *	  Commits that need not wait for the disk.
 *
 * A crash that loses a release does no harm: the lock stays reserved until
 * its ttl is over.  So when all that a transaction has written are releases,
 * its commit is made an asynchronous one, and giving a lock back costs no
 * flush.  With anything else written by the transaction it must not be.
 *
 * How that is known: before the first release the transaction has written
 * nothing (no xid, no WAL); before each further one, and before the commit,
 * the end of what it has written is still where the last release left it.
 * A grant or an extend in the same transaction forces the flush by itself
 * (lease_row.c), whatever is done here.
 *
 * synchronous_commit is changed as a variable, from just before the commit to
 * just after, where no code of the user's runs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "executor/instrument.h"

#include "quick_commit.h"

typedef enum QuickCommitState
{
	NO_RELEASE,					/* nothing released yet */
	RELEASES_ONLY,				/* released, and wrote nothing else */
	OTHER_WRITES				/* has to be flushed as usual */
} QuickCommitState;

static QuickCommitState state = NO_RELEASE;
static XLogRecPtr end_of_release;	/* while RELEASES_ONLY */
static int	saved_synchronous_commit;
static int64 records_before;
static bool commit_is_quick = false;

void
quick_commit_before_release(void)
{
	bool		clean;

	if (state == NO_RELEASE)
		clean = !TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
			XLogRecPtrIsInvalid(XactLastRecEnd);
	else
		clean = state == RELEASES_ONLY && XactLastRecEnd == end_of_release;

	/* Until the release is done, what is written may be anything. */
	state = clean ? RELEASES_ONLY : OTHER_WRITES;
	end_of_release = InvalidXLogRecPtr;
}

void
quick_commit_after_release(void)
{
	if (state == RELEASES_ONLY)
		end_of_release = XactLastRecEnd;
}

void
quick_commit_at_pre_commit(void)
{
	if (state != RELEASES_ONLY || XLogRecPtrIsInvalid(end_of_release) ||
		XactLastRecEnd != end_of_release)
		return;
	records_before = pgWalUsage.wal_records;
	saved_synchronous_commit = synchronous_commit;
	synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
	commit_is_quick = true;
}

/*
 * Other extensions may have written something at PRE_COMMIT after we looked:
 * more than the record of the commit.
 */
void
quick_commit_at_commit(void)
{
	if (commit_is_quick && pgWalUsage.wal_records - records_before > 1)
		XLogFlush(XactLastCommitEnd);
	quick_commit_at_xact_end();
}

void
quick_commit_at_xact_end(void)
{
	if (commit_is_quick)
		synchronous_commit = saved_synchronous_commit;
	commit_is_quick = false;
	state = NO_RELEASE;
}
