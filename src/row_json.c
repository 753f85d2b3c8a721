/*-------------------------------------------------------------------------
 *
 * row_json.c
 *	  What is said of a lock in JSON, by events and in Redis.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"

#include "row_json.h"

void
row_json_append(StringInfo out, const LockRow *row)
{
	appendStringInfo(out, "\"fence\":" INT64_FORMAT ",\"owner\":", row->fence);
	if (row->owner != NULL)
		escape_json(out, text_to_cstring(row->owner));
	else
		appendStringInfoString(out, "null");
}

void
row_json_append_time(StringInfo out, TimestampTz time)
{
	char text[	MAXDATELEN + 1];
	int			utc = 0;

	JsonEncodeDateTime(text, TimestampTzGetDatum(time), TIMESTAMPTZOID, &utc);
	appendStringInfo(out, "\"%s\"", text);
}
