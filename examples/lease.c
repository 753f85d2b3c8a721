/* lease.c - take a lock and keep it */
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include "lease.h"

double lease_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Extend the lease again and again. */
static void *keep(void *arg)
{
	Lease *lease = arg;

	for (;;)
	{
		double began = lease_now(), pause = lease->ttl / 12;
		PGresult *res;

		if (PQstatus(lease->heart) != CONNECTION_OK)	/* again, as long as the lease lasts */
			PQreset(lease->heart);
		res = PQexecParams(lease->heart, "SELECT distlock.try_extend($1, $2)",
						   2, NULL, lease->lock, NULL, NULL, 0);
		if (PQresultStatus(res) == PGRES_TUPLES_OK)
		{
			lease->deadline = PQgetisnull(res, 0, 0) ? 0 : began + lease->ttl;
			pause = lease->ttl / 3;
		}
		PQclear(res);
		poll(NULL, 0, (int) (pause * 1000));
	}
	return NULL;
}

PGresult *lease_acquire(Lease *lease, const char *ttl, const char *wait)
{
	const char *values[] = {lease->lock[0], ttl, wait};
	pthread_t keeper;
	PGresult *res = PQexecParams(lease->work, "SELECT distlock.acquire($1,"
								 " make_interval(secs => $2), make_interval(secs => $3))",
								 3, NULL, values, NULL, NULL, 0);

	if (PQresultStatus(res) == PGRES_TUPLES_OK)
	{
		lease->lock[1] = PQgetvalue(res, 0, 0);
		lease->ttl = atof(ttl);
		lease->deadline = lease_now() + lease->ttl;
		if (pthread_create(&keeper, NULL, keep, lease) != 0)
			lease->deadline = 0;	/* nothing is run without a heart-beat */
	}
	return res;
}
