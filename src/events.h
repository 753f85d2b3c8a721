/*-------------------------------------------------------------------------
 *
 * events.h
 *	  Announcing what happens to locks, by NOTIFY on channel "distlock".
 *
 * The payload is a JSON object with the members version (1), event, key, fence,
 * owner (null when there is none) and at (ISO 8601, UTC); never a token.  Other
 * members may come in later versions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_EVENTS_H
#define DISTLOCK_EVENTS_H

#include "distlock.h"

/* Is this event to be announced, by the setting distlock.events? */
extern bool event_is_wanted(EventKind kind);

/* Its payload, palloc'd: at most 5,000 bytes. */
extern char *event_payload(EventKind kind, const LockRow *row, TimestampTz at);

/*
 * The lock that a transaction with events takes when it commits, and keeps for
 * the rest of that: take it now; is it held?
 */
extern void event_lock_take(void);
extern bool event_lock_is_held(void);

/*
 * Announce it when this transaction commits.  False if it is dropped because the
 * server's queue of notifications is nearly full: no lock fails for that.
 */
extern bool event_send(const char *payload);

/* At the end of the transaction, however it ends. */
extern void event_at_xact_end(void);

#endif							/* DISTLOCK_EVENTS_H */
