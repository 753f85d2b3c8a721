/*-------------------------------------------------------------------------
 *
 * mirrors.h
 *	  The mirrors of a database, as the worker sees them.
 *
 * In a library built without Redis there are none: mirrors_none.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_MIRRORS_H
#define DISTLOCK_MIRRORS_H

#include "shared.h"

/* Begin, for the worker of this slot's database. */
extern void mirrors_begin(DatabaseSlot *slot, const char *database);

/* The settings may have changed. */
extern void mirrors_reload(void);

/*
 * Do what can be done without waiting; true when there is more to do at once.
 * An error ends the transaction that it may have begun; call mirrors_failed()
 * then, which begins all connections anew after a while, or if it was cancelled
 * mirrors_cancelled(), which has everything sent anew.
 */
extern bool mirrors_work(void);
extern void mirrors_cancelled(void);
extern void mirrors_failed(const char *reason);

/*
 * Wait for the latch or for Redis, for so many milliseconds at most; false, at
 * once, when there is no mirror.
 */
extern bool mirrors_wait(long ms);

/* Close everything: the worker ends. */
extern void mirrors_end(void);

#endif							/* DISTLOCK_MIRRORS_H */
