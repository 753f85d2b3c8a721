/* lease_run.c - run statements under a lock */
#include <poll.h>
#include <string.h>
#include "lease.h"

bool failed_with(const PGresult *res, const char *sqlstate)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	return state != NULL && strcmp(state, sqlstate) == 0;
}

PGresult *lease_run(Lease *lease, const char *sql)
{
	PGresult *res, *more;

	PQsendQueryParams(lease->work, sql, 2, NULL, lease->lock, NULL, NULL, 0);
	while (PQconsumeInput(lease->work) && PQisBusy(lease->work))
	{
		struct pollfd fd = {PQsocket(lease->work), POLLIN, 0};

		poll(&fd, 1, 100);
		if (lease_now() >= lease->deadline)
		{
			PGcancel *cancel = PQgetCancel(lease->work);
			char error[256];

			PQcancel(cancel, error, sizeof(error));
			PQfreeCancel(cancel);
			return NULL;
		}
	}
	for (res = PQgetResult(lease->work); (more = PQgetResult(lease->work)) != NULL;)
		PQclear(more);
	if (failed_with(res, "LK001"))
	{
		PQclear(res);
		return NULL;
	}
	return res;
}
