/*-------------------------------------------------------------------------
 *
 * stats.h
 *	  Counting, for the views stats, stats_histograms and busiest_keys.
 *
 * Nobody waits for anybody here: counters are atomic, and the table of the
 * busiest keys is passed by when another process is at it.  Everything is
 * counted in the database's slot of shared memory; without a slot, not at all.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_STATS_H
#define DISTLOCK_STATS_H

#include "shared.h"

/* Attach to shared memory; call in a transaction, before the others. */
extern void stats_begin(void);

/* At or after the commit; nothing here can fail. */
extern void stats_granted(uint64 key_hash);
extern void stats_extended(void);
extern void stats_ended(StatsCounter how, int64 held);
extern void stats_event(bool lost);

/* At once, whatever becomes of the transaction; times in microseconds. */
extern void stats_refused(uint64 key_hash);
extern void stats_waited(uint64 key_hash, int64 waited);

/* Forget what was counted in a slot. */
extern void stats_reset(DatabaseSlot *slot);

/* The upper bound of a bucket in microseconds; PG_INT64_MAX for the last. */
extern int64 stats_bucket_bound(int bucket);

#endif							/* DISTLOCK_STATS_H */
