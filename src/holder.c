/*-------------------------------------------------------------------------
 *
 * holder.c
 *	  Whether the holder in a row of the lock table holds the lock.
 *
 * A lease is held until it expires.  A lock of scope "session" is held as long
 * as the session lives.  A session of an earlier incarnation of the server has
 * gone without anybody's knowing when; its lock stays reserved for ttl from the
 * start of this one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "utils/timestamp.h"

#include "holder.h"
#include "incarnation.h"
#include "session_lock.h"

/* Sessions found ended; so many are remembered. */
#define MAX_ENDED 64

typedef struct EndedSession
{
	int64		fence;			/* with acquired_at: which grant it was */
	TimestampTz acquired_at;
	TimestampTz seen;
} EndedSession;

static EndedSession ended[MAX_ENDED];
static int	next_ended = 0;

bool
holder_is_live(const LockRow *row, TimestampTz now)
{
	return row->token != NULL && holder_end(row) > now;
}

TimestampTz
holder_end(const LockRow *row)
{
	TimestampTz start;
	TimestampTz end;

	if (row->scope != SCOPE_SESSION)
		return row->expires_at;
	if (session_lock_is_held(row->fence))
		return DT_NOEND;

	start = incarnation_start();
	if (start == row->incarnation)
	{
		(void) holder_seen_ended(row);
		return DT_NOBEGIN;
	}
	/* On a standby, the sessions of the primary cannot be seen. */
	if (start == 0 || pg_add_s64_overflow(start, row->ttl, &end) ||
		!IS_VALID_TIMESTAMP(end))
		return DT_NOEND;
	return end;
}

TimestampTz
holder_seen_ended(const LockRow *row)
{
	/* All sessions of an earlier incarnation had ended when this one began. */
	if (row->incarnation != incarnation_start())
		return incarnation_start();

	for (int i = 0; i < MAX_ENDED; i++)
	{
		if (ended[i].fence == row->fence &&
			ended[i].acquired_at == row->acquired_at)
			return ended[i].seen;
	}
	ended[next_ended].fence = row->fence;
	ended[next_ended].acquired_at = row->acquired_at;
	ended[next_ended].seen = GetCurrentTimestamp();
	next_ended = (next_ended + 1) % MAX_ENDED;
	return GetCurrentTimestamp();
}

TimestampTz
holder_ended_at(const LockRow *row, TimestampTz now)
{
	TimestampTz end = holder_end(row);

	return end == DT_NOBEGIN ? now : Min(end, now);
}
