/*-------------------------------------------------------------------------
 *
 * mirror_marks.h
 *	  How the worker learns which pages of the lock table to mirror.
 *
 * A transaction notes the pages that it writes.  When it has committed, it sets
 * a bit for each in shared memory, and wakes the worker.
 *
 * Why nothing is missed.  The session: (1) its transaction is over, and seen as
 * committed by every snapshot from now on, (2) sets the bits, (3) sets
 * "changed", and wakes the worker if it was not set.  The worker: (a) clears
 * "changed", (b) takes the bits, (c) takes a snapshot and reads the pages, (d)
 * sleeps unless "changed" is set or it is woken.  If (b) takes the bit, (c) sees
 * the change.  If not, (a) came before (3), which wakes the worker.
 *
 * Nothing of that is done unless there is a mirror ("wanted").  A session that
 * does not see it wanted has committed before the worker said so, and is seen by
 * the snapshots with which the worker reads all pages after that.
 *
 * The bits are set when the row is written, too, without waking anybody.  Who
 * reads all pages may find neither version of a row that moves from a page that
 * is to be read to one that has been; the bits of that page, or that somebody
 * was at work on it, tell that it has to be read once more.
 *
 * A row that is deleted cannot be read any more: if its lock was released just
 * before, Redis would keep it.  Who deletes one sees whether its page may not have
 * been read since: it is marked, or the worker is "behind", which it says before
 * it takes marks, and until it has read what they stand for.  There is a "gap"
 * then, which the worker fills by reconciling.
 *
 * COMMIT PREPARED sets no mark.  But PREPARE has: the worker, who reads the page,
 * finds the transaction prepared, and says so ("prepared", the oldest of such) before it
 * is not behind any more, and until it has read the page again and found it to have
 * ended.  It is behind as well from its claim to the end of reading all pages, when it
 * finds those that were prepared before.  What a transaction as young as that has
 * written is not deleted (the horizon of those who purge is no younger), and if it is,
 * since the horizon is from before, that is a gap, too.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_MIRROR_MARKS_H
#define DISTLOCK_MIRROR_MARKS_H

#include "page_marks.h"

/* Of whoever writes a row: it is on this page. */
extern void mirror_marks_note(BlockNumber page);

/*
 * Of whoever deletes a row: the page that it was on, and who wrote it; is it better
 * left for later?  The horizon before which what was written may be deleted, for one
 * that goes without a mirror.
 */
extern void mirror_marks_note_deleted(BlockNumber page, TransactionId writer);
extern bool mirror_marks_behind(void);
extern TransactionId mirror_marks_horizon(TransactionId horizon);

/* At the events of transactions: nothing here can fail. */
extern void mirror_marks_at_commit(void);
extern void mirror_marks_at_abort(void);

/*
 * For the worker: say whether there is a mirror; take the marks (a, b); say
 * whether something that they stand for has not been read, and which prepared
 * transaction is awaited, if any; and was there a gap?
 */
extern void mirror_marks_want(DatabaseSlot *slot, bool wanted);
extern void mirror_marks_take(DatabaseSlot *slot, PageMarks *marks);
extern void mirror_marks_set_behind(DatabaseSlot *slot, bool behind,
									TransactionId prepared);
extern bool mirror_marks_take_gap(DatabaseSlot *slot);

#endif							/* DISTLOCK_MIRROR_MARKS_H */
