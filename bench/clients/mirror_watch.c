/*
 * mirror_watch.c
 *		What the mirror in Redis does, and how fast: a load at a fixed rate, eyes on
 *		Redis, and a client to compare with
 *
 *	mirror_watch lag SOCKET PREFIX RATE SECONDS CLIENTS
 *	mirror_watch floor SOCKET PREFIX RATE SECONDS CLIENTS
 *		So many changes a second, at even intervals, over that many connections:
 *		a lock is acquired, and released about 100 ms later; with floor, the keys
 *		are set and deleted in Redis directly.  Printed is first how many changes
 *		a second it was; then a line for each: what, and the microseconds from
 *		sending the statement, and from having its answer, until Redis' own
 *		notification of the change is here.  A change that none came for is
 *		"lost": the mirror shows states, and may have missed one that ended before
 *		it got to it.
 *
 *	mirror_watch reconcile SOCKET BOOK KEYS COMMAND
 *		Send that command, FLUSHALL or one that makes the mirror connect again, and
 *		print the seconds from when the mirror has noticed (there is a new claim in
 *		its book) until there are that many keys beside the book, and until the
 *		mirror says that it has reconciled.
 *
 *	mirror_watch pipeline SOCKET PREFIX VALUE KEYS COMMANDS
 *		What COMMANDS names, for that many keys, in a pipeline that never runs dry,
 *		into a Redis that is empty: "set" (SET with a time to live), "write" (that,
 *		and HSET of a book) or "all" (HGET, GET, SET, HSET).  Prints the seconds.
 *
 * Where PostgreSQL is says the environment, as for psql.  All run on one machine,
 * whose clocks nobody sets meanwhile.
 */
#include <hiredis/hiredis.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <sys/time.h>
#include <unistd.h>

#include "client.h"

#define KEYS 1000				/* that come again */
#define HELD 0.1				/* seconds */
#define BATCH 1000				/* keys of the pipeline */

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
database_size(redisContext *redis)
{
	redisReply *reply = check(redis, redisCommand(redis, "DBSIZE"));
	long		result = reply->integer;

	freeReplyObject(reply);
	return result;
}

/* The claim in the mirror's book; empty if there is none. */
static void
get_claim(redisContext *redis, const char *book, char *claim, size_t size)
{
	redisReply *reply = check(redis, redisCommand(redis, "HGET %s %s", book, ""));

	snprintf(claim, size, "%s", reply->type == REDIS_REPLY_STRING ? reply->str : "");
	freeReplyObject(reply);
}

static PGconn *
connect_postgres(void)
{
	PGconn	   *conn = PQconnectdb("");

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

/* In the beginning there is nothing to release yet. */
static double
achieved_rate(double until)
{
	int			n = 0;

	for (int i = 0; i < n_changes; i++)
		n += (changes[i].done && changes[i].sent >= began + HELD);
	return n / (until - began - HELD);
}

static int
all_seen(void)
{
	for (int i = 0; i < n_changes; i++)
	{
		if (changes[i].done && changes[i].seen == 0)
			return 0;
	}
	return 1;
}

static void
run_lag(void)
{
	redisContext *eyes = connect_redis(arguments[0]);
	redisReply *reply;
	pthread_t	watcher;
	double		until;

	prefix = arguments[1];
	rate = atof(arguments[2]);
	n_changes = (int) (rate * atof(arguments[3]));
	n_clients = atoi(arguments[4]);
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
			clients[i].redis = connect_redis(arguments[0]);
		else
		{
			clients[i].postgres = connect_postgres();
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
	until = seconds_now();
	for (int i = 0; i < 100 && !all_seen(); i++)
		usleep(10000);
	ended = 1;

	printf("%.0f\n", achieved_rate(until));
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
run_reconcile(void)
{
	PGconn	   *conn = connect_postgres();
	redisContext *redis = connect_redis(arguments[0]);
	const char *book = arguments[1];
	long		keys = atol(arguments[2]);
	char		before[64];
	char		claim[64];
	double		sent = time_of_day();
	double		noticed,
				complete;

	get_claim(redis, book, before, sizeof(before));
	freeReplyObject(check(redis, redisCommand(redis, arguments[3])));
	do
	{
		usleep(200);
		get_claim(redis, book, claim, sizeof(claim));
	} while (claim[0] == '\0' || strcmp(claim, before) == 0);
	noticed = time_of_day();
	while (database_size(redis) < keys + 1)
		usleep(1000);
	complete = time_of_day();
	printf("%.4f %.4f\n", complete - noticed, await_reconciled(conn, sent) - noticed);
}

/* -------------------------------------------------------------- pipeline -- */

/* The replies are not looked at, as long as none is an error. */
static void
read_replies(redisContext *redis, long n)
{
	for (; n > 0; n--)
	{
		void	   *reply = NULL;

		if (redisGetReply(redis, &reply) != REDIS_OK)
			die("redis: %s", redis->errstr);
		freeReplyObject(check(redis, reply));
	}
}

static int
append_commands(redisContext *redis, const char *commands, const char *key)
{
	static const char *note = "0000000000000000042 1700000000000000 da39a3ee5e6b4b0d3255bfef95601890afd80709";
	const char *hget[] = {"HGET", "book", key};
	const char *get[] = {"GET", key};
	const char *set[] = {"SET", key, arguments[2], "PX", "3600000"};
	const char *hset[] = {"HSET", "book", key, note};
	int			reads = (strcmp(commands, "all") == 0);
	int			writes = reads || (strcmp(commands, "write") == 0);

	if (reads)
	{
		redisAppendCommandArgv(redis, 3, hget, NULL);
		redisAppendCommandArgv(redis, 2, get, NULL);
	}
	redisAppendCommandArgv(redis, 5, set, NULL);
	if (writes)
		redisAppendCommandArgv(redis, 4, hset, NULL);
	return 1 + writes + 2 * reads;
}

/* The write buffer goes out before the replies of the batch before are read. */
static void
run_pipeline(void)
{
	redisContext *redis = connect_redis(arguments[0]);
	long		keys = atol(arguments[3]);
	long		sent = 0;
	long		unanswered = 0;
	double		start;

	freeReplyObject(check(redis, redisCommand(redis, "FLUSHALL")));
	start = seconds_now();
	while (sent < keys || unanswered > 0)
	{
		long		appended = 0;
		int			done = (sent == keys);

		for (int i = 0; i < BATCH && sent < keys; i++, sent++)
		{
			char		key[256];

			snprintf(key, sizeof(key), "%s%ld", arguments[1], sent);
			appended += append_commands(redis, arguments[4], key);
		}
		while (!done)
		{
			if (redisBufferWrite(redis, &done) != REDIS_OK)
				die("redis: %s", redis->errstr);
		}
		read_replies(redis, unanswered);
		unanswered = appended;
	}
	printf("%.4f\n", seconds_now() - start);
}

int
main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	arguments = argv + 2;
	is_floor = strcmp(what, "floor") == 0;
	if ((is_floor || strcmp(what, "lag") == 0) && argc == 7)
		run_lag();
	else if (strcmp(what, "reconcile") == 0 && argc == 6)
		run_reconcile();
	else if (strcmp(what, "pipeline") == 0 && argc == 7)
		run_pipeline();
	else
		die("see the beginning of mirror_watch.c");
	return 0;
}
