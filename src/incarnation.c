/*-------------------------------------------------------------------------
 *
 * incarnation.c
 *	  Since when the server has been up without a crash.
 *
 * That is the start of the WAL writer.  pg_postmaster_start_time() does not
 * change when the server restarts its processes after a crash, and is long past
 * at a promotion; the WAL writer is started anew in both cases.  Should it ever
 * be restarted by itself, the locks of sessions that have ended since stay
 * reserved for their ttl.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/backend_status.h"

#include "compat.h"
#include "incarnation.h"

/* The WAL writer is started within milliseconds of the first session. */
#define TRIES 1000

/*
 * A session does not outlive the incarnation that it saw outside recovery.
 */
static TimestampTz start = 0;

static TimestampTz wal_writer_start(void);

TimestampTz
incarnation_start(void)
{
	if (start != 0)
		return start;
	if (RecoveryInProgress())
		return 0;
	if (!IsUnderPostmaster)
		return start = MyStartTimestamp;	/* single-user mode */

	for (int i = 0; i < TRIES; i++)
	{
		start = wal_writer_start();
		if (start != 0)
			return start;
		pg_usleep(1000);
		CHECK_FOR_INTERRUPTS();
	}
	ereport(ERROR,
			(errcode(ERRCODE_CANNOT_CONNECT_NOW),
			 errmsg("the start of the server cannot be determined"),
			 errdetail("The WAL writer is not running."),
			 errhint("Try again.")));
}

static TimestampTz
wal_writer_start(void)
{
	TimestampTz result = 0;

	pgstat_clear_backend_activity_snapshot();
	for (int i = 1; i <= pgstat_fetch_stat_numbackends(); i++)
	{
		LocalPgBackendStatus *status = compat_backend_status(i);

		if (status != NULL &&
			status->backendStatus.st_backendType == B_WAL_WRITER)
			result = status->backendStatus.st_proc_start_timestamp;
	}
	pgstat_clear_backend_activity_snapshot();
	return result;
}
