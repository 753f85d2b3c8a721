/*
 * own_time.c
 *		A function for SQL: a clock that stands still while this process would
 *		run but another one has the processor
 *
 * In seconds.  What the process does counts, and what it waits for, such as the
 * disk; what else goes on on the machine does not.  The kernel keeps account of
 * that in /proc/self/schedstat; where it does not, this is but a clock.
 */
#include "postgres.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "fmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(own_time);

Datum
own_time(PG_FUNCTION_ARGS)
{
	static int	fd = -1;
	struct timespec now;
	char		text[100] = "";
	long long	running;
	long long	waiting = 0;	/* both in nanoseconds */

	if (fd < 0)
		fd = open("/proc/self/schedstat", O_RDONLY);
	if (fd >= 0 && pread(fd, text, sizeof(text) - 1, 0) > 0 &&
		sscanf(text, "%lld %lld", &running, &waiting) != 2)
		elog(ERROR, "could not read \"%s\"", text);
	clock_gettime(CLOCK_MONOTONIC, &now);
	PG_RETURN_FLOAT8(now.tv_sec + (now.tv_nsec - waiting) / 1e9);
}
