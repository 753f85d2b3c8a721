/*-------------------------------------------------------------------------
 *
 * deadlock.h
 *	  When to look for deadlocks in a queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_DEADLOCK_H
#define DISTLOCK_DEADLOCK_H

/*
 * How long to wait in the queue of a key before looking for a deadlock, in
 * milliseconds; 0: deadlock_timeout.  To be asked when nothing has been locked
 * yet for this wait.
 */
extern int	deadlock_search_delay(void);

#endif							/* DISTLOCK_DEADLOCK_H */
