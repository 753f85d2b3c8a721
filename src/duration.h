/*-------------------------------------------------------------------------
 *
 * duration.h
 *	  Intervals as numbers of microseconds.
 *
 * A day is 24 hours in every time zone; months have no fixed length and are
 * refused.  All functions raise 22023 for what is out of range; "name" is the
 * argument's name, for the message.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_DURATION_H
#define DISTLOCK_DURATION_H

#include "datatype/timestamp.h"

/* A time to live: 1 ms or more, and ending within what timestamps can say. */
extern int64 duration_ttl(const Interval *interval, const char *name);

/* A time to wait: 0 to 24 h. */
extern int64 duration_wait(const Interval *interval, const char *name);

/* A delay between attempts: 1 ms to 24 h. */
extern int64 duration_delay(const Interval *interval, const char *name);

/* The interval of so many microseconds; palloc'd. */
extern Interval *duration_to_interval(int64 microseconds);

/* When a lease that starts now and lives for ttl ends; raises 22023. */
extern TimestampTz duration_end(TimestampTz now, int64 ttl);

#endif							/* DISTLOCK_DURATION_H */
