/*
 * redis_pairs.c
 *		Pairs of acquire and release in Redis, in the form Redis documents:
 *		SET key token NX PX ttl, and a script that compares and deletes
 *
 *	redis_pairs SOCKET CLIENTS
 *
 * See turns.h.  Each client has a key of its own, and speaks through hiredis,
 * Redis' own C library.
 */
#include "turns.h"

#include <hiredis/hiredis.h>

static const char *release_script =
"if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

static const char *socket_path;

typedef struct Client
{
	redisContext *redis;
	char		key[16];
	char		script[64];
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
connect_client(int number)
{
	Client	   *client = calloc(1, sizeof(Client));
	redisReply *reply;

	client->redis = redisConnectUnix(socket_path);
	if (client->redis == NULL || client->redis->err)
		die("redis: cannot connect to %s", socket_path);
	snprintf(client->key, sizeof(client->key), "%d", number);
	reply = check(client->redis, redisCommand(client->redis, "SCRIPT LOAD %s", release_script),
				  REDIS_REPLY_STRING);
	snprintf(client->script, sizeof(client->script), "%s", reply->str);
	freeReplyObject(reply);
	return client;
}

static int
take_turn(void *connection)
{
	Client	   *client = connection;
	redisReply *reply;
	char		token[TOKEN_LENGTH + 1];

	make_token(token);
	freeReplyObject(check(client->redis,
						  redisCommand(client->redis, "SET %s %s NX PX 60000",
									   client->key, token),
						  REDIS_REPLY_STATUS));
	reply = check(client->redis,
				  redisCommand(client->redis, "EVALSHA %s 1 %s %s",
							   client->script, client->key, token),
				  REDIS_REPLY_INTEGER);
	if (reply->integer != 1)
		die("redis: the lock was lost");
	freeReplyObject(reply);
	return 1;
}

static pid_t
served_by(void *connection)
{
	return peer_of(((Client *) connection)->redis->fd);
}

int
main(int argc, char **argv)
{
	if (argc != 3)
		die("usage: redis_pairs SOCKET CLIENTS");
	socket_path = argv[1];
	serve_turns(atoi(argv[2]));
	return 0;
}
