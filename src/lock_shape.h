/*-------------------------------------------------------------------------
 *
 * lock_shape.h
 *	  What the table of locks looks like: its columns, as rows and as tuples.
 *
 * For lock_table.c and lock_page.c alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_LOCK_SHAPE_H
#define DISTLOCK_LOCK_SHAPE_H

#include "distlock.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"

/* The columns, in the order of the install script. */
typedef enum LockColumn
{
	COLUMN_FENCE,
	COLUMN_ACQUIRED_AT,
	COLUMN_EXPIRES_AT,
	COLUMN_TTL,
	COLUMN_PID,
	COLUMN_ROLE,
	COLUMN_PERMIT,
	COLUMN_SCOPE,
	COLUMN_KEY,
	COLUMN_TOKEN,
	COLUMN_OWNER,
	COLUMN_DATA,
	COLUMN_INCARNATION
} LockColumn;

#define NUM_COLUMNS (COLUMN_INCARNATION + 1)

/*
 * Is the table, which is open, as this library expects it?  Remembered until its
 * definition changes.
 */
extern bool lock_shape_check(Relation table);

/* Of the table checked last: is there a second index like the primary key? */
extern bool lock_shape_has_twin_index(void);

/* A row of a tuple's values, into which its texts point, and back. */
extern void lock_shape_read(LockRow *row, const Datum *values,
							const bool *isnull);
extern void lock_shape_write(const LockRow *row, TupleTableSlot *slot);

/* Call once when the library is loaded. */
extern void lock_shape_init(void);

#endif							/* DISTLOCK_LOCK_SHAPE_H */
