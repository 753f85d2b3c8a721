/*-------------------------------------------------------------------------
 *
 * incarnation.h
 *	  Since when the server has been up without a crash.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_INCARNATION_H
#define DISTLOCK_INCARNATION_H

#include "datatype/timestamp.h"

/*
 * When this incarnation of the server began: at start, after a crash, at
 * promotion.  Sessions of earlier ones are gone.  Raises 57P03 when that cannot
 * be found out in a second; 0 during recovery.
 */
extern TimestampTz incarnation_start(void);

#endif							/* DISTLOCK_INCARNATION_H */
