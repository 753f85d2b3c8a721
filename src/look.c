/*-------------------------------------------------------------------------
 *
 * look.c
 *	  What a look at a lock's row, without the key lock, tells.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "holder.h"
#include "look.h"
#include "token.h"

void
look_at(const LockKey *key, LockLook *look)
{
	LockTable	table;

	lock_table_open(&table, RowExclusiveLock);
	lock_table_look(&table, key, look);
	lock_table_close(&table, false);
}

const LockRow *
look_holder(const LockLook *look, TimestampTz now)
{
	if (look->found && holder_is_live(&look->row, now))
		return &look->row;
	if (look->pending && holder_is_live(&look->pending_row, now))
		return &look->pending_row;
	return NULL;
}

bool
look_is_own(const AcquireRequest *request, const LockLook *look,
			TimestampTz now)
{
	return request->token != NULL && look->found &&
		request->scope == look->row.scope &&
		holder_is_live(&look->row, now) &&
		token_equal(look->row.token, request->token);
}

bool
look_is_settled(const LockLook *look, TimestampTz now)
{
	if (!look->found || !holder_is_live(&look->row, now))
		return false;
	if (!look->changing && !look->pending)
		return true;
	return look->pending && !look->pending_free &&
		look->pending_row.fence == look->row.fence;
}
