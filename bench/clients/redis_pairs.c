/*
 * redis_pairs.c
 *		Pairs of acquire and release in Redis, in the form Redis documents:
 *		SET key token NX PX ttl, and a script that compares and deletes
 *
 *	redis_pairs SOCKET CLIENTS SECONDS
 *
 * Each client is a thread with a connection and a key of its own, through
 * hiredis, Redis' own C library.  That costs less processor time than pgbench
 * does for the others.  Prints the pairs a second of all clients together.
 */
#include <hiredis/hiredis.h>
#include <pthread.h>

#include "client.h"

static const char *release_script =
"if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

static const char *socket_path;
static double seconds;
static pthread_barrier_t start;

typedef struct Client
{
	int			number;
	long		pairs;
	double		began;
	double		ended;
} Client;

static redisReply *
check(redisContext *redis, redisReply *reply, int type)
{
	if (reply == NULL)
		die("redis: %s", redis->errstr);
	if (reply->type != type)
		die("redis: unexpected reply of type %d: %s", reply->type,
			reply->str ? reply->str : "");
	return reply;
}

static void *
run_client(void *arg)
{
	Client	   *client = arg;
	redisContext *redis = redisConnectUnix(socket_path);
	redisReply *reply;
	char		key[32];
	char		script[64];
	char		token[TOKEN_LENGTH + 1];

	if (redis == NULL || redis->err)
		die("redis: cannot connect to %s", socket_path);
	snprintf(key, sizeof(key), "%d", client->number);
	reply = check(redis, redisCommand(redis, "SCRIPT LOAD %s", release_script),
				  REDIS_REPLY_STRING);
	snprintf(script, sizeof(script), "%s", reply->str);
	freeReplyObject(reply);

	pthread_barrier_wait(&start);
	client->began = seconds_now();
	do
	{
		make_token(token);
		freeReplyObject(check(redis, redisCommand(redis, "SET %s %s NX PX 60000", key, token),
							  REDIS_REPLY_STATUS));
		reply = check(redis, redisCommand(redis, "EVALSHA %s 1 %s %s", script, key, token),
					  REDIS_REPLY_INTEGER);
		if (reply->integer != 1)
			die("redis: the lock was lost");
		freeReplyObject(reply);
		client->pairs++;
		client->ended = seconds_now();
	} while (client->ended - client->began < seconds);
	redisFree(redis);
	return NULL;
}

int
main(int argc, char **argv)
{
	int			n;
	double		rate = 0;

	if (argc != 4)
		die("usage: redis_pairs SOCKET CLIENTS SECONDS");
	socket_path = argv[1];
	n = atoi(argv[2]);
	seconds = atof(argv[3]);

	pthread_t	threads[n];
	Client		clients[n];

	memset(clients, 0, sizeof(clients));
	pthread_barrier_init(&start, NULL, n);
	for (int i = 0; i < n; i++)
	{
		clients[i].number = i;
		pthread_create(&threads[i], NULL, run_client, &clients[i]);
	}
	for (int i = 0; i < n; i++)
	{
		pthread_join(threads[i], NULL);
		rate += clients[i].pairs / (clients[i].ended - clients[i].began);
	}
	printf("%.3f\n", rate);
	return 0;
}
