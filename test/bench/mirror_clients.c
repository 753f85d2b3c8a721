/*
 * mirror_clients.c
 *		What test/bench/mirror needs to be quick: a load at a fixed rate, eyes on
 *		Redis, and a client to compare with
 *
 *	mirror_clients lag CONNINFO SOCKET PREFIX RATE SECONDS CLIENTS
 *	mirror_clients floor CONNINFO SOCKET PREFIX RATE SECONDS CLIENTS
 *		So many changes a second, at even intervals, over that many connections:
 *		a lock is acquired, and released about 100 ms later; with floor, the keys
 *		are set and deleted in Redis directly.  Printed is a line for each
 *		change: what, and the microseconds from sending the statement, and from
 *		having its answer, until Redis' own notification of the change is here.
 *		A change that none came for is "lost": the mirror shows states, and may
 *		have missed one that ended before it got to it.
 *
 *	mirror_clients empty CONNINFO SOCKET BOOK KEYS
 *		FLUSHALL, then print the seconds until the mirror has noticed (its book
 *		is there), from then until there are that many keys beside the book, and
 *		from then until it says that it is connected again.
 *
 *	mirror_clients steady CONNINFO SOCKET BOOK
 *		Wait for the next reconciliation by the clock, which begins with a new
 *		claim in the book; print the seconds that it takes.
 *
 *	mirror_clients raw SOCKET PREFIX VALUE KEYS
 *		That many SETs with a time to live, in a pipeline that never runs dry.
 *		Prints the seconds.
 *
 * All run on one machine, whose clocks nobody sets meanwhile.
 */
#include <hiredis/hiredis.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <sys/time.h>
#include <unistd.h>

#include "client.h"

#define KEYS 1000				/* that come again */
#define HELD 0.1				/* seconds */
#define BATCH 1000				/* of the pipeline */

typedef struct Change
{
	double		sent;
	double		answered;
	double		seen;
	int			done;
} Change;

/* A connection to either, and its share of the changes */
typedef struct Client
{
	int			number;
	PGconn	   *postgres;
	redisContext *redis;
} Client;

static char **arguments;
static const char *prefix;
static double rate;
static int	n_clients;
static int	is_floor;

/* Even ones acquire, odd ones release. */
static Change *changes;
static int	n_changes;
static int	newest[KEYS];		/* lock that has this key, by its acquire */
static double began;
static volatile int ended;

/* --------------------------------------------------------------- basics -- */

static redisContext *
connect_redis(const char *path)
{
	redisContext *redis = redisConnectUnix(path);

	if (redis == NULL || redis->err)
		die("redis: cannot connect to %s", path);
	return redis;
}

static redisReply *
check(redisContext *redis, void *reply)
{
	if (reply == NULL)
		die("redis: %s", redis->errstr);
	if (((redisReply *) reply)->type == REDIS_REPLY_ERROR)
		die("redis: %s", ((redisReply *) reply)->str);
	return reply;
}

static long
number(redisContext *redis, const char *format, const char *argument)
{
	redisReply *reply = check(redis, redisCommand(redis, format, argument));
	long		result = reply->integer;

	freeReplyObject(reply);
	return result;
}

static PGconn *
connect_postgres(const char *conninfo)
{
	PGconn	   *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
		die("%s", PQerrorMessage(conn));
	return conn;
}

static PGresult *
expect_row(PGconn *conn, PGresult *result)
{
	if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1)
		die("%s", PQerrorMessage(conn));
	return result;
}

static void
prepare(PGconn *conn, const char *name, const char *statement)
{
	PGresult   *result = PQprepare(conn, name, statement, 0, NULL);

	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		die("%s", PQerrorMessage(conn));
	PQclear(result);
}

static void
sleep_until(double when)
{
	struct timespec until = {(time_t) when, (long) ((when - (time_t) when) * 1e9)};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

/* ------------------------------------------------------------------ lag -- */

static int
change_in_redis(Client *client, int is_release, const char *key)
{
	redisReply *reply;

	if (is_release)
		reply = redisCommand(client->redis, "DEL %s", key);
	else
		reply = redisCommand(client->redis, "SET %s x PX 60000", key);
	freeReplyObject(check(client->redis, reply));
	return 1;
}

/* False if there was nothing to release, because the acquire came too late. */
static int
change_in_postgres(Client *client, int is_release, const char *key)
{
	PGresult   *result;
	int			done;

	result = expect_row(client->postgres,
						PQexecPrepared(client->postgres, is_release ? "release" : "acquire",
									   1, &key, NULL, NULL, 0));
	done = !is_release || PQgetvalue(result, 0, 0)[0] == 't';
	PQclear(result);
	return done;
}

static void *
run_client(void *arg)
{
	Client	   *client = arg;
	int			held = (int) (HELD * rate / 2);

	for (int i = client->number; i < n_changes; i += n_clients)
	{
		int			is_release = i % 2;
		int			lock = i / 2 - (is_release ? held : 0);
		Change	   *change = &changes[2 * lock + is_release];
		char		key[256];

		if (lock < 0)
			continue;
		snprintf(key, sizeof(key), "%s%d", prefix, lock % KEYS);
		sleep_until(began + i / rate);
		if (!is_release)
			__atomic_store_n(&newest[lock % KEYS], lock, __ATOMIC_SEQ_CST);
		change->sent = seconds_now();
		change->done = (is_floor ? change_in_redis : change_in_postgres) (client, is_release, key);
		change->answered = seconds_now();
	}
	return NULL;
}

/*
 * A message has the name of the channel, which ends with the key, and what was
 * done to it.
 */
static void *
watch(void *arg)
{
	redisContext *redis = arg;
	void	   *reply;

	while (redisGetReply(redis, &reply) == REDIS_OK)
	{
		double		now = seconds_now();
		redisReply *message = check(redis, reply);
		const char *key;

		if (message->elements == 4 &&
			(key = strstr(message->element[2]->str, prefix)) != NULL)
		{
			const char *what = message->element[3]->str;
			int			lock = __atomic_load_n(&newest[atoi(key + strlen(prefix))],
											   __ATOMIC_SEQ_CST);
			Change	   *change = &changes[2 * lock + (strcmp(what, "del") == 0)];

			if ((strcmp(what, "set") == 0 || strcmp(what, "del") == 0) && change->seen == 0)
				change->seen = now;
		}
		freeReplyObject(message);
	}
	if (!ended)
		die("redis: %s", redis->errstr);
	return NULL;
}

static void
run_lag(void)
{
	redisContext *eyes = connect_redis(arguments[1]);
	redisReply *reply;
	pthread_t	watcher;

	prefix = arguments[2];
	rate = atof(arguments[3]);
	n_changes = (int) (rate * atof(arguments[4]));
	n_clients = atoi(arguments[5]);
	changes = calloc(n_changes + 2, sizeof(Change));

	pthread_t	threads[n_clients];
	Client		clients[n_clients];

	freeReplyObject(check(eyes, redisCommand(eyes, "CONFIG SET notify-keyspace-events Kg$")));
	reply = check(eyes, redisCommand(eyes, "PSUBSCRIBE __keyspace@*:*%s*", prefix));
	freeReplyObject(reply);
	for (int i = 0; i < n_clients; i++)
	{
		clients[i].number = i;
		if (is_floor)
			clients[i].redis = connect_redis(arguments[1]);
		else
		{
			clients[i].postgres = connect_postgres(arguments[0]);
			prepare(clients[i].postgres, "acquire",
					"SELECT distlock.acquire_with_token($1, 'mine', '1 min', owner => 'owner')");
			prepare(clients[i].postgres, "release", "SELECT distlock.try_release($1, 'mine')");
		}
	}
	if (pthread_create(&watcher, NULL, watch, eyes) != 0)
		die("cannot start a thread");
	began = seconds_now() + 0.1;
	for (int i = 0; i < n_clients; i++)
	{
		if (pthread_create(&threads[i], NULL, run_client, &clients[i]) != 0)
			die("cannot start a thread");
	}
	for (int i = 0; i < n_clients; i++)
		pthread_join(threads[i], NULL);
	sleep(1);
	ended = 1;

	for (int i = 0; i < n_changes; i++)
	{
		Change	   *change = &changes[i];

		if (!change->done)
			continue;
		if (change->seen == 0)
			printf("%s lost\n", i % 2 ? "release" : "acquire");
		else
			printf("%s %.0f %.0f\n", i % 2 ? "release" : "acquire",
				   (change->seen - change->sent) * 1e6,
				   (change->seen - change->answered) * 1e6);
	}
}

/* -------------------------------------------------------- reconciliation -- */

static double
time_of_day(void)
{
	struct timeval now;

	gettimeofday(&now, NULL);
	return now.tv_sec + now.tv_usec / 1e6;
}

/* Wait until the mirror has reconciled after then; the time when it had. */
static double
await_reconciled(PGconn *conn, double then)
{
	char		text[32];
	const char *values[] = {text};

	snprintf(text, sizeof(text), "%.6f", then);
	for (;; usleep(2000))
	{
		PGresult   *result = PQexecParams(conn,
										  "SELECT extract(epoch FROM reconciled_at) FROM distlock.mirror_status"
										  " WHERE database = current_database() AND state = 'connected'"
										  " AND reconciled_at > to_timestamp($1::float8)",
										  1, NULL, values, NULL, NULL, 0);

		if (PQresultStatus(result) != PGRES_TUPLES_OK)
			die("%s", PQerrorMessage(conn));
		if (PQntuples(result) == 1)
		{
			double		when = atof(PQgetvalue(result, 0, 0));

			PQclear(result);
			return when;
		}
		PQclear(result);
	}
}

static void
run_empty(void)
{
	PGconn	   *conn = connect_postgres(arguments[0]);
	redisContext *redis = connect_redis(arguments[1]);
	const char *book = arguments[2];
	long		keys = atol(arguments[3]);
	double		emptied = time_of_day();
	double		noticed,
				complete;

	freeReplyObject(check(redis, redisCommand(redis, "FLUSHALL")));
	while (number(redis, "EXISTS %s", book) == 0)
		usleep(1000);
	noticed = time_of_day();
	while (number(redis, "DBSIZE", NULL) < keys + 1)
		usleep(1000);
	complete = time_of_day();
	printf("%.3f %.3f %.3f\n", noticed - emptied, complete - noticed,
		   await_reconciled(conn, emptied) - complete);
}

static void
run_steady(void)
{
	PGconn	   *conn = connect_postgres(arguments[0]);
	redisContext *redis = connect_redis(arguments[1]);
	char		first[64] = "";
	double		began;

	for (;; usleep(1000))
	{
		redisReply *reply = check(redis, redisCommand(redis, "HGET %s %s", arguments[2], ""));

		if (reply->type != REDIS_REPLY_STRING)
			die("there is no claim");
		if (first[0] == '\0')
			snprintf(first, sizeof(first), "%s", reply->str);
		else if (strcmp(first, reply->str) != 0)
			break;
		freeReplyObject(reply);
	}
	began = time_of_day();
	printf("%.3f\n", await_reconciled(conn, began) - began);
}

/* ------------------------------------------------------------------ raw -- */

/* The write buffer goes out before the replies of the batch before are read. */
static void
run_raw(void)
{
	redisContext *redis = connect_redis(arguments[0]);
	long		keys = atol(arguments[3]);
	double		start = seconds_now();
	long		sent = 0;

	for (long answered = 0; answered < keys;)
	{
		long		before = sent;
		int			done = 0;

		for (; sent < keys && sent < before + BATCH; sent++)
		{
			char		key[256];
			const char *words[] = {"SET", key, arguments[2], "PX", "3600000"};

			snprintf(key, sizeof(key), "%s%ld", arguments[1], sent);
			redisAppendCommandArgv(redis, 5, words, NULL);
		}
		while (!done)
		{
			if (redisBufferWrite(redis, &done) != REDIS_OK)
				die("redis: %s", redis->errstr);
		}
		for (; answered < (sent < keys ? before : keys); answered++)
		{
			void	   *reply = NULL;

			if (redisGetReply(redis, &reply) != REDIS_OK)
				die("redis: %s", redis->errstr);
			freeReplyObject(check(redis, reply));
		}
	}
	printf("%.3f\n", seconds_now() - start);
}

int
main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	arguments = argv + 2;
	is_floor = strcmp(what, "floor") == 0;
	if ((is_floor || strcmp(what, "lag") == 0) && argc == 8)
		run_lag();
	else if (strcmp(what, "empty") == 0 && argc == 6)
		run_empty();
	else if (strcmp(what, "steady") == 0 && argc == 5)
		run_steady();
	else if (strcmp(what, "raw") == 0 && argc == 6)
		run_raw();
	else
		die("see the beginning of mirror_clients.c");
	return 0;
}
