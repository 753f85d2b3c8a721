/*-------------------------------------------------------------------------
 *
 * mirror_report.c
 *	  What people are told of a mirror.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "mirror_parts.h"

/*
 * What people see, and read in the log.
 */
void
mirror_report_state(Mirror *mirror, MirrorState state)
{
	MirrorStatus *status = mirror->status;

	if (status->state != state)
	{
		status->state = state;
		status->since = GetCurrentTimestamp();
	}
	if (state == mirror->logged || state == MIRROR_CONNECTING ||
		state == MIRROR_RECONCILING)
		return;
	mirror->logged = state;
	if (state == MIRROR_CONNECTED)
		ereport(LOG,
				(errmsg("distlock mirror %s of database \"%s\": connected",
						status->name, mirror->database)));
	else
		ereport(LOG,
				(errmsg("distlock mirror %s of database \"%s\": %s",
						status->name, mirror->database,
						state == MIRROR_FAILING ? "failing" : "disconnected"),
				 errdetail("Reason: %s.", status->last_error)));
}

/*
 * Redis' own words go only as far as they can be printed.
 */
void
mirror_report_error(Mirror *mirror, const char *reason)
{
	MirrorStatus *status = mirror->status;
	int			length = 0;

	for (; *reason != '\0' && length < LAST_ERROR_SIZE - 1; reason++)
		status->last_error[length++] = *reason >= ' ' && *reason < 127 ? *reason : '?';
	status->last_error[length] = '\0';
	status->errors++;
	status->last_error_at = GetCurrentTimestamp();
}
