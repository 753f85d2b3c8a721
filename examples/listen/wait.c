/*
 * wait KEY COMMAND: run COMMAND when the lock KEY is free.  PGHOST and so on say where
 * (no pooler in transaction mode), POLL after how many seconds to look in any case.
 *
 *	cc -I$(pg_config --includedir) wait.c -lpq -o wait
 */
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TRY "SELECT distlock.try_acquire_with_token($1, $2, ttl => '10 min')"
#define REST "SELECT coalesce(min(least(remaining_ms, 1000 * $2::int)), 1000) " \
	"FROM distlock.locks WHERE key = $1"

static PGconn *conn;

/* The number that a statement returns, 0 for NULL; on a new connection if need be. */
static long ask(const char *sql, const char *one, const char *two)
{
	const char *arguments[] = {one, two};
	PGresult *result;

	while (PQresultStatus(result = PQexecParams(conn, sql, 2, NULL, arguments,
				NULL, NULL, 0)) != PGRES_TUPLES_OK) {
		fputs(PQerrorMessage(conn), stderr);
		if (PQstatus(conn) == CONNECTION_OK)
			exit(1);			/* it is the statement that is wrong */
		for (PQclear(result); PQstatus(conn) != CONNECTION_OK; PQreset(conn))
			sleep(1);
		PQclear(PQexec(conn, "LISTEN distlock"));
	}
	long value = atol(PQgetvalue(result, 0, 0));
	PQclear(result);
	return value;
}

/* Until there is news of the key (a plain word: in JSON it stands as it is), or ... */
static void await_news(const char *key, long ms)
{
	struct pollfd socket = {PQsocket(conn), POLLIN, 0};
	PGnotify *notify;
	...
}
