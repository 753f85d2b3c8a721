/*-------------------------------------------------------------------------
 *
 * quick_commit.h
 *	  Commits that need not wait for the disk.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_QUICK_COMMIT_H
#define DISTLOCK_QUICK_COMMIT_H

/* Call around the changes of one release. */
extern void quick_commit_before_release(void);
extern void quick_commit_after_release(void);

/* Call at the events of transactions. */
extern void quick_commit_at_pre_commit(void);
extern void quick_commit_at_commit(void);
extern void quick_commit_at_xact_end(void);

#endif							/* DISTLOCK_QUICK_COMMIT_H */
