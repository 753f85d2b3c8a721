/*-------------------------------------------------------------------------
 *
 * mirrors_none.c
 *	  The mirrors of a database, in a library built without Redis: none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mirrors.h"

void
mirrors_begin(DatabaseSlot *slot, const char *database)
{
}

void
mirrors_reload(void)
{
}

bool
mirrors_work(void)
{
	return false;
}

void
mirrors_cancelled(void)
{
}

void
mirrors_failed(const char *reason)
{
}

bool
mirrors_wait(long ms)
{
	return false;
}

void
mirrors_end(void)
{
}
