/* Pay interest, branch by branch, under a lock: C and libpq; the lock is in lease.c. */
#include <stdio.h>
#include <stdlib.h>
#include "lease.h"

#define PAY "SELECT pay_interest(branch, rate, distlock.guard($1, $2)) FROM next_branch()"

static int quit(const char *message)
{
	fprintf(stderr, "%s\n", message);
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	static Lease lease = {.lock = {"interest"}};
	PGresult *res;

	lease.work = PQconnectdb("");
	lease.heart = PQconnectdb("");
	res = lease_acquire(&lease, argc > 1 ? argv[1] : "30", argc > 2 ? argv[2] : "600");
	if (PQresultStatus(res) != PGRES_TUPLES_OK)
		return quit(failed_with(res, "55P03") ? "refused: somebody else is at it" :
					PQerrorMessage(lease.work));
	while ((res = lease_run(&lease, PAY)) != NULL && PQntuples(res) > 0)
	{
		puts(PQgetvalue(res, 0, 0));
		PQclear(res);
	}
	if (res == NULL)
		return quit("lost: the lock is not ours any more");
	/* Should this fail, the ttl ends the lease. */
	PQclear(lease_run(&lease, "SELECT distlock.try_release($1, $2)"));
	if (PQresultStatus(res) != PGRES_TUPLES_OK)
		return quit(PQresultErrorMessage(res));
	puts("done");
	return EXIT_SUCCESS;
}
