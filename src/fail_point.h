/*-------------------------------------------------------------------------
 *
 * fail_point.h
 *	  Places at which a test can make distlock fail.
 *
 * Only in a build for tests (make FAIL_POINTS=yes); in others they are nothing.
 * Their names, and what may be done there, are in fail_point.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_FAIL_POINT_H
#define DISTLOCK_FAIL_POINT_H

#ifdef DISTLOCK_FAIL_POINTS

#define FAIL_POINT(name) fail_point(name)

/* Define distlock.fail_points. */
extern void fail_points_define(void);

/* Do here what the setting says; it may raise, where the table allows it. */
extern void fail_point(const char *name);

#else

#define FAIL_POINT(name) ((void) 0)
#define fail_points_define() ((void) 0)

#endif

#endif							/* DISTLOCK_FAIL_POINT_H */
