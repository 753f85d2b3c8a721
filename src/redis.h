/*-------------------------------------------------------------------------
 *
 * redis.h
 *	  A connection to Redis that never waits.
 *
 * Commands are queued, and answered in their order.  The caller waits for the
 * socket together with whatever else it waits for, calls redis_step(), and is
 * given the replies.  Each command has a deadline, and so has the way to the
 * first one: name, connection, TLS.  Once anything has failed, the connection
 * can only be closed.
 *
 * No function raises an error, but for lack of memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_REDIS_H
#define DISTLOCK_REDIS_H

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

#include "redis_url.h"

typedef struct RedisConnection RedisConnection;

/* hiredis' own, to be looked at by the functions below. */
typedef struct redisReply RedisReply;

typedef enum RedisReplyType
{
	REDIS_TEXT,					/* a string or a status */
	REDIS_INTEGER,
	REDIS_NIL,
	REDIS_ERROR,				/* with a text */
	REDIS_ARRAY
} RedisReplyType;

/*
 * Is told of each reply, with the tag of its command; false when the reply is not
 * what it should be (see redis_fail), or nothing more is to be done.
 */
typedef bool (*RedisHandler) (void *arg, void *tag, RedisReply *reply);

/*
 * Begin to connect; "timeout" in milliseconds is that of everything.  The attempt
 * decides with which address of the host to begin, lest one that does not answer
 * use up the time of the others.
 */
extern RedisConnection *redis_open(const RedisAddress *address,
								   const char *ca_file, int timeout,
								   int attempt);

/* Close it, and forget the commands; their tags are freed by pfree(). */
extern void redis_close(RedisConnection *connection);

/* Is it connected?  Commands can be queued then, and not before. */
extern bool redis_is_ready(const RedisConnection *connection);

/*
 * Queue a command: begin it with so many words, add each, and say with which tag
 * it is to be answered.
 */
extern void redis_begin(RedisConnection *connection, int words);
extern void redis_add(RedisConnection *connection, const char *word,
					  size_t length);
extern void redis_add_text(RedisConnection *connection, const char *word);
extern void redis_end(RedisConnection *connection, void *tag);

/* So many commands have not been answered. */
extern int	redis_in_flight(const RedisConnection *connection);

/* Do what can be done now; false when the connection has failed. */
extern bool redis_step(RedisConnection *connection, RedisHandler handler,
					   void *arg);

/* Why it has failed; and say so oneself. */
extern const char *redis_error(const RedisConnection *connection);
extern void redis_fail(RedisConnection *connection, const char *format,...)
			pg_attribute_printf(2, 3);

/*
 * What to wait for before the next step: a socket (-1: none) and events on it
 * (WL_SOCKET_...), but not past a time of steady_now().
 */
extern int	redis_socket(const RedisConnection *connection);
extern uint32 redis_events(const RedisConnection *connection);
extern int64 redis_deadline(const RedisConnection *connection);

/* Replies.  A text ends with a zero byte, but may have others. */
extern RedisReplyType redis_type(const RedisReply *reply);
extern const char *redis_text(const RedisReply *reply);
extern size_t redis_length(const RedisReply *reply);
extern int64 redis_integer(const RedisReply *reply);
extern int	redis_elements(const RedisReply *reply);
extern RedisReply *redis_element(const RedisReply *reply, int i);

#endif							/* DISTLOCK_REDIS_H */
