/*
 * handover.c
 *		One lock that goes from hand to hand: who waited, and how long
 *
 *	handover CLIENTS SECONDS HOLD_US postgres CONNINFO ACQUIRE RELEASE
 *	handover CLIENTS SECONDS HOLD_US redis SOCKET
 *
 * Each client is a thread with a connection, and in turn acquires the lock,
 * holds it for that many microseconds and releases it; before that, one after the
 * other, each of them does so without holding it, so that what happens at the first
 * calls in a session is not measured.  Printed is a line for
 * each grant: the client's number and, in microseconds of one clock, when it
 * asked, when it knew of the grant, and when it called the release.
 *
 * PostgreSQL gets two statements; in RELEASE, $1 is what ACQUIRE returned.  A
 * statement with a semicolon is sent as it is, any other prepared once.  Redis
 * does SET NX PX; who is refused waits for a message, which the script that
 * releases the lock publishes, and tries again.
 */
#include <hiredis/hiredis.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "client.h"

#define MANY_CLIENTS 100		/* for which that would take long */

typedef struct Grant
{
	double		asked;
	double		granted;
	double		released;
} Grant;

typedef struct Client
{
	int			number;
	PGconn	   *postgres;
	redisContext *redis;
	redisContext *messages;		/* the connection that has subscribed */
	char		script[64];
	char		token[256];
	Grant	   *grants;
	int			n_grants;
	int			room;
} Client;

static const char *release_script =
"if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end "
"redis.call('del', KEYS[1]) redis.call('publish', KEYS[1], 'free') return 1";

static double seconds;
static int	hold_us;
static char **arguments;
static double began;
static pthread_barrier_t start;

/* ------------------------------------------------------------ PostgreSQL -- */

static void
prepare(Client *client, const char *name, const char *statement)
{
	PGresult   *result;

	if (strchr(statement, ';'))
		return;
	result = PQprepare(client->postgres, name, statement, 0, NULL);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		die("%s", PQerrorMessage(client->postgres));
	PQclear(result);
}

static void
connect_postgres(Client *client)
{
	client->postgres = PQconnectdb(arguments[0]);
	if (PQstatus(client->postgres) != CONNECTION_OK)
		die("%s", PQerrorMessage(client->postgres));
	prepare(client, "acquire", arguments[1]);
	prepare(client, "release", arguments[2]);
}

static PGresult *
execute(Client *client, const char *name, const char *statement)
{
	const char *values[1] = {client->token};
	PGresult   *result;

	if (strchr(statement, ';'))
		result = PQexec(client->postgres, statement);
	else
		result = PQexecPrepared(client->postgres, name, strstr(statement, "$1") != NULL,
								values, NULL, NULL, 0);
	if (PQresultStatus(result) != PGRES_COMMAND_OK &&
		PQresultStatus(result) != PGRES_TUPLES_OK)
		die("%s", PQerrorMessage(client->postgres));
	return result;
}

static void
acquire_postgres(Client *client)
{
	PGresult   *result = execute(client, "acquire", arguments[1]);

	if (PQntuples(result) == 1)
		snprintf(client->token, sizeof(client->token), "%s", PQgetvalue(result, 0, 0));
	PQclear(result);
}

static void
release_postgres(Client *client)
{
	PQclear(execute(client, "release", arguments[2]));
}

/* ----------------------------------------------------------------- Redis -- */

static redisReply *
check(redisContext *redis, redisReply *reply)
{
	if (reply == NULL)
		die("redis: %s", redis->errstr);
	if (reply->type == REDIS_REPLY_ERROR)
		die("redis: %s", reply->str);
	return reply;
}

static void
connect_redis(Client *client)
{
	redisReply *reply;

	client->redis = redisConnectUnix(arguments[0]);
	client->messages = redisConnectUnix(arguments[0]);
	if (client->redis == NULL || client->redis->err ||
		client->messages == NULL || client->messages->err)
		die("redis: cannot connect to %s", arguments[0]);
	reply = check(client->redis, redisCommand(client->redis, "SCRIPT LOAD %s", release_script));
	snprintf(client->script, sizeof(client->script), "%s", reply->str);
	freeReplyObject(reply);
	freeReplyObject(check(client->messages, redisCommand(client->messages, "SUBSCRIBE hot")));
}

/* Messages that came before now say nothing about the time after. */
static void
forget_messages(redisContext *messages)
{
	for (;;)
	{
		struct pollfd readable = {.fd = messages->fd,.events = POLLIN};
		void	   *reply = NULL;

		if (redisGetReplyFromReader(messages, &reply) != REDIS_OK)
			die("redis: %s", messages->errstr);
		if (reply != NULL)
			freeReplyObject(reply);
		else if (poll(&readable, 1, 0) <= 0)
			break;
		else if (redisBufferRead(messages) != REDIS_OK)
			die("redis: %s", messages->errstr);
	}
}

static void
acquire_redis(Client *client)
{
	redisReply *reply;
	void	   *message;
	int			granted;

	make_token(client->token);
	for (;;)
	{
		forget_messages(client->messages);
		reply = check(client->redis, redisCommand(client->redis, "SET hot %s NX PX 60000",
												  client->token));
		granted = (reply->type == REDIS_REPLY_STATUS);
		freeReplyObject(reply);
		if (granted)
			break;
		if (redisGetReply(client->messages, &message) != REDIS_OK)
			die("redis: %s", client->messages->errstr);
		freeReplyObject(message);
	}
}

static void
release_redis(Client *client)
{
	redisReply *reply = check(client->redis, redisCommand(client->redis, "EVALSHA %s 1 hot %s",
														  client->script, client->token));

	if (reply->integer != 1)
		die("redis: the lock was lost");
	freeReplyObject(reply);
}

/* ----------------------------------------------------------------- round -- */

static void *
run_client(void *arg)
{
	Client	   *client = arg;
	struct timespec hold = {0, hold_us * 1000L};

	pthread_barrier_wait(&start);
	do
	{
		Grant	   *grant;

		if (client->n_grants == client->room)
		{
			client->room = 2 * client->room + 64;
			client->grants = realloc(client->grants, client->room * sizeof(Grant));
			if (client->grants == NULL)
				die("out of memory");
		}
		grant = &client->grants[client->n_grants++];
		grant->asked = seconds_now();
		(client->postgres ? acquire_postgres : acquire_redis) (client);
		grant->granted = seconds_now();
		nanosleep(&hold, NULL);
		grant->released = seconds_now();
		(client->postgres ? release_postgres : release_redis) (client);
	} while (seconds_now() - began < seconds);
	return NULL;
}

int
main(int argc, char **argv)
{
	int			n;
	int			is_postgres;
	struct rlimit files;

	if (argc < 6)
		die("usage: handover CLIENTS SECONDS HOLD_US postgres|redis ...");
	n = atoi(argv[1]);
	seconds = atof(argv[2]);
	hold_us = atoi(argv[3]);
	is_postgres = (strcmp(argv[4], "postgres") == 0);
	arguments = argv + 5;
	if (is_postgres && argc != 8)
		die("PostgreSQL needs two statements");

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);

	pthread_t	threads[n];
	Client		clients[n];
	pthread_attr_t small;

	memset(clients, 0, sizeof(clients));
	pthread_barrier_init(&start, NULL, n + 1);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 256 * 1024);
	for (int i = 0; i < n; i++)
	{
		clients[i].number = i;
		(is_postgres ? connect_postgres : connect_redis) (&clients[i]);
		for (int j = 0; j < (n <= MANY_CLIENTS ? 6 : 1); j++)
		{
			(is_postgres ? acquire_postgres : acquire_redis) (&clients[i]);
			(is_postgres ? release_postgres : release_redis) (&clients[i]);
		}
		if (pthread_create(&threads[i], &small, run_client, &clients[i]) != 0)
			die("cannot start a thread");
	}
	began = seconds_now();
	pthread_barrier_wait(&start);
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < n; i++)
		for (int j = 0; j < clients[i].n_grants; j++)
		{
			Grant	   *grant = &clients[i].grants[j];

			printf("%d %.1f %.1f %.1f\n", i, (grant->asked - began) * 1e6,
				   (grant->granted - began) * 1e6, (grant->released - began) * 1e6);
		}
	return 0;
}
