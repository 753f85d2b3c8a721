/*
 * wait KEY COMMAND: run COMMAND when the lock KEY is free.  It looks at every event with KEY
 * in it, when the lease ends, and after POLL ms.  PGHOST and so on say where (directly).
 */
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define TRY "SELECT distlock.try_acquire_with_token($1, $2, ttl => '10 min')"
#define REST "SELECT coalesce(min(least(remaining_ms, $2)), 1000) FROM distlock.locks" \
	" WHERE key = $1 AND scope <> 'transaction'"	/* whose end no event tells */

/* The number that a statement returns, 0 for NULL.  Connects again if need be. */
static long ask(PGconn *conn, const char *sql, const char *one, const char *two)
{
	const char *arguments[] = {one, two};
	PGresult *result;

	while (result = PQexecParams(conn, sql, 2, NULL, arguments, NULL, NULL, 0),
			PQresultStatus(result) != PGRES_TUPLES_OK) {
		fputs(PQerrorMessage(conn), stderr);
		if (PQstatus(conn) == CONNECTION_OK)
			exit(1);	/* it is the statement that is wrong */
		for (PQclear(result); PQstatus(conn) != CONNECTION_OK; PQreset(conn))
			sleep(1);
		PQclear(PQexec(conn, "LISTEN distlock"));
	}
	long value = atol(PQgetvalue(result, 0, 0));
	PQclear(result);
	return value;
}

int main(int argc, char **argv)
{
	const char *key = argv[argc - 2], *most = getenv("POLL") ? getenv("POLL") : "60000";
	PGconn *conn = PQconnectdb("");
	PGnotify *event;
	unsigned long bits[2];
	char token[33];
	int timer = timerfd_create(CLOCK_MONOTONIC, 0);
	getentropy(bits, sizeof bits);
	sprintf(token, "%016lx%016lx", bits[0], bits[1]);
	PQclear(PQexec(conn, "LISTEN distlock"));	/* before looking: nothing gets lost */
	while (ask(conn, TRY, key, token) == 0) {
		long ms = ask(conn, REST, key, most);
		struct itimerspec rest = {{0, 0}, {ms / 1000, ms % 1000 * 1000000 + 1}};
		struct pollfd either[] = {{PQsocket(conn), POLLIN, 0}, {timer, POLLIN, 0}};

		timerfd_settime(timer, 0, &rest, NULL);
		while ((event = PQnotifies(conn)) ? !strstr(event->extra, key)
				: poll(either, 2, -1) > 0 && !either[1].revents && PQconsumeInput(conn))
			PQfreemem(event);
		PQfreemem(event);
	}
	return system(argv[argc - 1]) | ask(conn, "SELECT distlock.try_release($1, $2)", key, token);
}
