/*-------------------------------------------------------------------------
 *
 * mirror_check.h
 *	  The worker answers a session that asks for a check of the mirrors.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_MIRROR_CHECK_H
#define DISTLOCK_MIRROR_CHECK_H

#include "mirror.h"

/* Look for a request, and go on with the answer, without waiting. */
extern void mirror_check_step(DatabaseSlot *slot, Mirror *const *mirrors,
							  int num_mirrors);

/* Give it up: the mirrors have gone. */
extern void mirror_check_stop(void);

#endif							/* DISTLOCK_MIRROR_CHECK_H */
