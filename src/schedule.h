/*-------------------------------------------------------------------------
 *
 * schedule.h
 *	  When the worker has to look at which page of the lock table.
 *
 * There is no index on the expiry (it would end in-place updates), and the
 * worker cannot know all leases: its memory is bounded.  It knows of each page
 * when the first thing on it is due, or of each group of pages if the table is
 * large.  Such a time may be too early, never too late:
 *
 * - Who writes a row sets a bit for its page ("dirty"), and makes the worker's
 *	 next waking ("wake_at") no later than when the row is due.  What is on the
 *	 page before is not read, so that this costs two reads of memory, as a rule.
 * - When it wakes, the worker takes the bits, and looks at those pages and at
 *	 those whose time has come.
 *
 * So a lease that is extended or released in time costs one more look at its
 * page, when it would have expired, for all such leases on the page together.
 *
 * Why nothing is missed.  The writer: (1) writes the row, (2) sets the bit, (3)
 * lowers wake_at, each visible to others before the next.  The worker: (a)
 * sets wake_at to never, (b) takes the bits, (c) reads the pages, (d) lowers
 * wake_at to what it has found, (e) sleeps until wake_at or until woken.  If (b)
 * takes the bit, (c) sees the row.  If (b) comes before (2), so does (a) before
 * (3): wake_at is lowered after it was set to never, and (e) wakes up in time
 * and takes the bit then.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_SCHEDULE_H
#define DISTLOCK_SCHEDULE_H

#include "distlock.h"
#include "shared.h"

/* When the worker should look at this row: it expires, or can be purged. */
extern TimestampTz schedule_row_due(const LockRow *row);

/* Of whoever writes a row: the page is to be looked at then. */
extern void schedule_note(BlockNumber page, TimestampTz due);

/* A session that held locks is about to end; registered by the first of them. */
extern void schedule_watch_session(void);

/*
 * The rest is for the worker.  Groups are numbered from 0; their pages are from
 * first to below end.
 */
extern void schedule_begin(DatabaseSlot *slot);
extern void schedule_all(void);

/* When to wake up. */
extern TimestampTz schedule_wake_at(void);

/* Begin a pass (a); collect what has changed in a table of so many pages (b). */
extern void schedule_begin_pass(TimestampTz now);
extern void schedule_collect(BlockNumber pages);

/* The next group that is due, from this one on; -1 when there is none. */
extern int	schedule_next_due(int group, TimestampTz now);
extern void schedule_group_pages(int group, BlockNumber *first,
								 BlockNumber *end);

/* When this group was looked at last; DT_NOBEGIN: never. */
extern TimestampTz schedule_looked_at(int group);

/* What a look at a group has found. */
extern void schedule_set(int group, TimestampTz looked_at, TimestampTz due,
						 bool has_sessions);

/* It could not be looked at; is there a group that could not? */
extern void schedule_set_failed(int group, TimestampTz due);
extern bool schedule_any_failed(void);

/* End the pass (d), to wake up at that time; or give it up, to begin anew then. */
extern void schedule_end_pass(TimestampTz due);
extern void schedule_retry_at(TimestampTz time);

#endif							/* DISTLOCK_SCHEDULE_H */
