/*-------------------------------------------------------------------------
 *
 * mirror.h
 *	  A Redis server that shows the locks.  See README.mirror.md.
 *
 * For the worker, outside of transactions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_MIRROR_H
#define DISTLOCK_MIRROR_H

#include "page_marks.h"
#include "redis_url.h"

typedef struct Mirror Mirror;
struct MirrorComparison;

/* Begin; it connects by its steps.  "status" is in shared memory. */
extern Mirror *mirror_new(const RedisAddress *address, MirrorStatus *status,
						  const char *database);

/* Close the connection, and forget it.  What is in Redis stays for its time. */
extern void mirror_free(Mirror *mirror);

/*
 * Pages with these marks have changed; see mirror_marks.h.  A gap: rows of locks
 * that were released have been deleted before they could be read.
 */
extern void mirror_note(Mirror *mirror, const PageMarks *marks, bool gap);

/*
 * Is it connected, and sends what changes; has it pages to read; the oldest
 * transaction that it has found prepared there, if any.
 */
extern bool mirror_is_sending(const Mirror *mirror);
extern bool mirror_is_behind(const Mirror *mirror);
extern TransactionId mirror_prepared(const Mirror *mirror);

/* Something went wrong here: claim, and send everything, anew. */
extern void mirror_begin_anew(Mirror *mirror);

/*
 * Do what can be done now, without waiting.  True when there is more to do at
 * once.  It relies on all marks having been taken and noted just before.
 */
extern bool mirror_step(Mirror *mirror);

/* Close the connection for this reason, and connect again later. */
extern void mirror_fail(Mirror *mirror, const char *reason);

/*
 * Until when to wait for the next step, by steady_now(), and for what on which
 * socket; see redis.h.
 */
extern int64 mirror_due(const Mirror *mirror);
extern int	mirror_socket(const Mirror *mirror);
extern uint32 mirror_events(const Mirror *mirror);

/*
 * Compare the table with what is in Redis, by the next steps.  False when that
 * cannot be begun now: see its state.
 */
extern bool mirror_compare(Mirror *mirror,
						   struct MirrorComparison *comparison);

extern const MirrorStatus *mirror_status(const Mirror *mirror);

#endif							/* DISTLOCK_MIRROR_H */
