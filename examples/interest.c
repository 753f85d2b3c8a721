/* Pay interest, branch by branch, under a lock: C and libpq, in one thread. */
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAY "SELECT pay_interest(branch, rate, distlock.guard($1, $2)) FROM next_branch()"

static PGconn *work, *heart;
static const char *lock[] = {"interest", NULL};		/* key and token */
static double ttl, deadline;						/* seconds */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Note the answer to the heart-beat before, and send one when it is time. */
static void beat(void)
{
	static double began, next;
	PGresult *res;

	if (began > 0 && (!PQconsumeInput(heart) || !PQisBusy(heart)))
	{
		for (; (res = PQgetResult(heart)) != NULL; PQclear(res))
			if (PQresultStatus(res) == PGRES_TUPLES_OK)
			{
				deadline = PQgetisnull(res, 0, 0) ? 0 : began + ttl;
				next = began + ttl / 3;
			}
		began = 0;
	}
	if (began > 0 || now() < next)
		return;
	if (PQstatus(heart) != CONNECTION_OK)	/* again, as long as the lease lasts */
		PQreset(heart);
	began = now();
	next = began + ttl / 12;
	if (!PQsendQueryParams(heart, "SELECT distlock.try_extend($1, $2)", 2, NULL,
						   lock, NULL, NULL, 0))
		began = 0;
}

/*
 * Run a statement under the lock, and keep the lock meanwhile.  Returns its
 * result, or NULL when the lock is lost: the statement is cancelled then.
 */
static PGresult *run(const char *sql)
{
	PGresult *res, *more;
	const char *state;

	PQsendQueryParams(work, sql, 2, NULL, lock, NULL, NULL, 0);
	while (PQconsumeInput(work) && PQisBusy(work))
	{
		struct pollfd fds[] = {{PQsocket(work), POLLIN, 0}, {PQsocket(heart), POLLIN, 0}};

		poll(fds, 2, 100);
		beat();
		if (now() >= deadline)
		{
			PGcancel   *cancel = PQgetCancel(work);
			char		error[256];

			PQcancel(cancel, error, sizeof(error));
			PQfreeCancel(cancel);
			return NULL;
		}
	}
	for (res = PQgetResult(work); (more = PQgetResult(work)) != NULL;)
		PQclear(more);
	state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	return state && strcmp(state, "LK001") == 0 ? NULL : res;
}

static int quit(const char *message)
{
	fprintf(stderr, "%s\n", message);
	return 1;
}

int main(int argc, char **argv)
{
	const char *values[] = {lock[0], argc > 1 ? argv[1] : "30", argc > 2 ? argv[2] : "600"};
	const char *state;
	PGresult *res;

	work = PQconnectdb("");
	heart = PQconnectdb("connect_timeout=2");
	ttl = atof(values[1]);
	res = PQexecParams(work, "SELECT distlock.acquire($1, make_interval(secs => $2),"
					   " make_interval(secs => $3))", 3, NULL, values, NULL, NULL, 0);
	state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	if (PQresultStatus(res) != PGRES_TUPLES_OK)
		return quit(state && strcmp(state, "55P03") == 0 ?
					"refused: somebody else is at it" : PQerrorMessage(work));
	lock[1] = PQgetvalue(res, 0, 0);
	deadline = now() + ttl;
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
	return 0;
}
