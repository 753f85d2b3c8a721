/* Pay interest, branch by branch, under a lock: C and libpq, with a thread for the heart-beat. */
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAY "SELECT pay_interest(branch, rate, distlock.guard($1, $2)) FROM next_branch()"

static PGconn *work, *heart;
static const char *lock[] = {"interest", NULL};		/* key and token */
static double ttl;
static _Atomic double deadline;						/* the lease may be over after that */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Extend the lease again and again. */
static void *keep(void *unused)
{
	for (;;)
	{
		double began = now(), pause = ttl / 12;
		PGresult *res;

		if (PQstatus(heart) != CONNECTION_OK)	/* try again, as long as the lease lasts */
			PQreset(heart);
		res = PQexecParams(heart, "SELECT distlock.try_extend($1, $2)",
						   2, NULL, lock, NULL, NULL, 0);
		if (PQresultStatus(res) == PGRES_TUPLES_OK)
		{
			deadline = PQgetisnull(res, 0, 0) ? 0 : began + ttl;
			pause = ttl / 3;
		}
		PQclear(res);
		poll(NULL, 0, (int) (pause * 1000));
	}
	return unused;
}

static int failed_with(const PGresult *res, const char *sqlstate)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	return state != NULL && strcmp(state, sqlstate) == 0;
}

/* Run a statement under the lock; when that is lost, cancel it and return NULL. */
static PGresult *run(const char *sql)
{
	PGresult *res, *more;

	PQsendQueryParams(work, sql, 2, NULL, lock, NULL, NULL, 0);
	while (PQconsumeInput(work) && PQisBusy(work))
	{
		struct pollfd fd = {PQsocket(work), POLLIN, 0};

		poll(&fd, 1, 100);
		if (now() >= deadline)
		{
			PGcancel *cancel = PQgetCancel(work);
			char error[256];

			PQcancel(cancel, error, sizeof(error));
			PQfreeCancel(cancel);
			return NULL;
		}
	}
	for (res = PQgetResult(work); (more = PQgetResult(work)) != NULL;)
		PQclear(more);
	return failed_with(res, "LK001") ? NULL : res;
}

static int quit(const char *message)
{
	fprintf(stderr, "%s\n", message);
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	const char *values[] = {lock[0], argc > 1 ? argv[1] : "30", argc > 2 ? argv[2] : "600"};
	pthread_t keeper;
	PGresult *res;

	work = PQconnectdb("");
	heart = PQconnectdb("");
	ttl = atof(values[1]);
	res = PQexecParams(work, "SELECT distlock.acquire($1, make_interval(secs => $2),"
					   " make_interval(secs => $3))", 3, NULL, values, NULL, NULL, 0);
	if (PQresultStatus(res) != PGRES_TUPLES_OK)
		return quit(failed_with(res, "55P03") ? "refused: somebody else is at it" :
					PQerrorMessage(work));
	lock[1] = PQgetvalue(res, 0, 0);
	deadline = now() + ttl;
	pthread_create(&keeper, NULL, keep, NULL);
	while ((res = run(PAY)) != NULL && PQntuples(res) > 0)
	{
		puts(PQgetvalue(res, 0, 0));
		PQclear(res);
	}
	if (res == NULL)
		return quit("lost: the lock is not ours any more");
	PQclear(PQexecParams(work, "SELECT distlock.try_release($1, $2)", 2, NULL, lock,
						 NULL, NULL, 0));	/* should this fail, the ttl ends the lease */
	if (PQresultStatus(res) != PGRES_TUPLES_OK)
		return quit(PQresultErrorMessage(res));
	puts("done");
	return EXIT_SUCCESS;
}
