/*-------------------------------------------------------------------------
 *
 * redis.c
 *	  A connection to Redis that never waits.
 *
 * The only file that knows hiredis.  Of that, the part is used that does what it
 * is told: buffers in and out, and the parser of replies.  What it calls a
 * connection attempt never waits for a socket that does not block, when all it
 * is given is a numeric address.
 *
 * A server need not be what it claims to be.  What it sends is read in pieces of
 * a limited size, and a reply that would be larger than any of ours ends the
 * connection; the parser of hiredis itself allocates for arrays what their
 * header says, and nests them, which is limited as well.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <hiredis/hiredis.h>
#include <poll.h>
#include <sys/socket.h>

#include "lib/ilist.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "compat.h"
#include "redis.h"
#include "redis_tls.h"
#include "resolve.h"
#include "steady_clock.h"

/* What is read at a time, and how long a reply can be, in bytes. */
#define READ_AT_A_TIME (256 * 1024)
#define MAX_REPLY (1024 * 1024)

/*
 * What can be queued without being sent.  A server that answers what it has not
 * been asked yet could have us ask for ever.
 */
#define MAX_QUEUED (64 * 1024 * 1024)

/* Elements of an array, and arrays in arrays. */
#define MAX_ELEMENTS 65536
#define MAX_DEPTH 4

/* How hiredis counts the former. */
#if HIREDIS_MAJOR >= 1
typedef size_t ArrayLength;
#else
typedef int ArrayLength;
#endif

typedef enum Phase
{
	PHASE_RESOLVING,
	PHASE_CONNECTING,
	PHASE_READY,
	PHASE_FAILED
} Phase;

typedef struct Command
{
	dlist_node	node;
	int64		deadline;
	void	   *tag;
} Command;

struct RedisConnection
{
	RedisAddress address;
	char	   *ca_file;
	int64		timeout;		/* microseconds */
	Phase		phase;
	int64		deadline;		/* of getting ready */
	Resolver	resolver;
	int			attempt;		/* begins with this address */
	int			next_address;	/* so many have been tried */
	redisContext *context;
	RedisTls   *tls;
	size_t		received;		/* since the last reply was complete */
	bool		unsent;			/* there is something in the output buffer */
	StringInfoData command;		/* that is being built */
	dlist_head	commands;		/* that were queued and not answered */
	int			in_flight;
	char		error[256];
};

/* How it makes arrays. */
static void *(*create_array) (const redisReadTask *task, ArrayLength elements) = NULL;

static bool step_resolving(RedisConnection *connection);
static bool step_connecting(RedisConnection *connection);
static bool step_ready(RedisConnection *connection, RedisHandler handler,
					   void *arg);
static void connect_next(RedisConnection *connection);
static void limit_arrays(redisReader *reader);
static bool array_was_refused(const redisContext *context);
static void close_context(RedisConnection *connection);
static bool send_queued(RedisConnection *connection);
static bool receive(RedisConnection *connection);
static bool answer(RedisConnection *connection, RedisHandler handler,
				   void *arg);
static bool context_failed(RedisConnection *connection);

RedisConnection *
redis_open(const RedisAddress *address, const char *ca_file, int timeout,
		   int attempt)
{
	MemoryContext saved = MemoryContextSwitchTo(TopMemoryContext);
	RedisConnection *connection = palloc0(sizeof(RedisConnection));

	connection->address = *address;
	connection->ca_file = pstrdup(ca_file);
	connection->timeout = timeout * INT64CONST(1000);
	connection->attempt = attempt;
	connection->deadline = steady_now() + connection->timeout;
	connection->phase = PHASE_RESOLVING;
	connection->resolver.fd = -1;
	dlist_init(&connection->commands);
	initStringInfo(&connection->command);
	MemoryContextSwitchTo(saved);

	if (address->local)
		connect_next(connection);
	else if (resolve_begin(&connection->resolver, address->host,
						   timeout / 1000 + 1))
		(void) step_resolving(connection);
	return connection;
}

void
redis_close(RedisConnection *connection)
{
	dlist_mutable_iter iter;

	resolve_end(&connection->resolver);
	close_context(connection);
	dlist_foreach_modify(iter, &connection->commands)
	{
		Command    *command = dlist_container(Command, node, iter.cur);

		if (command->tag != NULL)
			pfree(command->tag);
		pfree(command);
	}
	pfree(connection->command.data);
	pfree(connection->ca_file);
	pfree(connection);
}

void
redis_begin(RedisConnection *connection, int words)
{
	resetStringInfo(&connection->command);
	appendStringInfo(&connection->command, "*%d\r\n", words);
}

void
redis_add(RedisConnection *connection, const char *word, size_t length)
{
	appendStringInfo(&connection->command, "$%zu\r\n", length);
	appendBinaryStringInfo(&connection->command, word, length);
	appendStringInfoString(&connection->command, "\r\n");
}

void
redis_add_text(RedisConnection *connection, const char *word)
{
	redis_add(connection, word, strlen(word));
}

void
redis_end(RedisConnection *connection, void *tag)
{
	Command    *command;

	if (connection->phase == PHASE_FAILED)
	{
		if (tag != NULL)
			pfree(tag);
		return;
	}
	Assert(connection->phase == PHASE_READY);
	command = MemoryContextAlloc(TopMemoryContext, sizeof(Command));
	command->deadline = steady_now() + connection->timeout;
	command->tag = tag;
	dlist_push_tail(&connection->commands, &command->node);
	connection->in_flight++;

	if (redisAppendFormattedCommand(connection->context,
									connection->command.data,
									connection->command.len) != REDIS_OK)
		(void) context_failed(connection);
	else if (sdslen(connection->context->obuf) > MAX_QUEUED)
		redis_fail(connection, "it does not read what it is sent");
	connection->unsent = true;
}

int
redis_in_flight(const RedisConnection *connection)
{
	return connection->in_flight;
}

bool
redis_step(RedisConnection *connection, RedisHandler handler, void *arg)
{
	if (connection->phase == PHASE_RESOLVING && !step_resolving(connection))
		return false;
	if (connection->phase == PHASE_CONNECTING && !step_connecting(connection))
		return false;
	if (connection->phase == PHASE_READY &&
		!step_ready(connection, handler, arg))
		return false;
	if (connection->phase != PHASE_FAILED &&
		steady_now() > redis_deadline(connection))
		redis_fail(connection, "no answer within %d ms",
				   (int) (connection->timeout / 1000));
	return connection->phase != PHASE_FAILED;
}

bool
redis_is_ready(const RedisConnection *connection)
{
	return connection->phase == PHASE_READY;
}

const char *
redis_error(const RedisConnection *connection)
{
	return connection->error;
}

/*
 * The first reason counts.
 */
void
redis_fail(RedisConnection *connection, const char *format,...)
{
	char		reason[sizeof(connection->error)];
	va_list		args;

	if (connection->phase == PHASE_FAILED)
		return;
	connection->phase = PHASE_FAILED;
	/* It may be made of the error that is there. */
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	strlcpy(connection->error, reason, sizeof(connection->error));
}

int
redis_socket(const RedisConnection *connection)
{
	if (connection->phase == PHASE_RESOLVING)
		return connection->resolver.fd;
	return connection->context != NULL ? connection->context->fd : -1;
}

uint32
redis_events(const RedisConnection *connection)
{
	switch (connection->phase)
	{
		case PHASE_RESOLVING:
			return WL_SOCKET_READABLE;
		case PHASE_CONNECTING:
			return WL_SOCKET_WRITEABLE;
		case PHASE_READY:
			if (connection->unsent && redis_tls_may_write(connection->tls))
				return WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE;
			return WL_SOCKET_READABLE;
		case PHASE_FAILED:
			break;
	}
	return WL_SOCKET_READABLE;
}

/*
 * That of the first command is the earliest.
 */
int64
redis_deadline(const RedisConnection *connection)
{
	if (connection->phase != PHASE_READY)
		return connection->deadline;
	if (connection->in_flight == 0)
		return PG_INT64_MAX;
	return dlist_container(Command, node, connection->commands.head.next)->deadline;
}

RedisReplyType
redis_type(const RedisReply *reply)
{
	switch (reply->type)
	{
		case REDIS_REPLY_STRING:
		case REDIS_REPLY_STATUS:
			return REDIS_TEXT;
		case REDIS_REPLY_INTEGER:
			return REDIS_INTEGER;
		case REDIS_REPLY_ERROR:
			return REDIS_ERROR;
		case REDIS_REPLY_ARRAY:
			return REDIS_ARRAY;
		default:
			return REDIS_NIL;
	}
}

const char *
redis_text(const RedisReply *reply)
{
	return reply->str;
}

size_t
redis_length(const RedisReply *reply)
{
	return reply->len;
}

int64
redis_integer(const RedisReply *reply)
{
	return reply->integer;
}

int
redis_elements(const RedisReply *reply)
{
	return (int) reply->elements;
}

RedisReply *
redis_element(const RedisReply *reply, int i)
{
	return reply->element[i];
}

static bool
step_resolving(RedisConnection *connection)
{
	if (!resolve_step(&connection->resolver))
		return true;
	if (connection->resolver.n == 0)
	{
		redis_fail(connection, "could not find the address of \"%s\": %s",
				   connection->address.host, connection->resolver.error);
		return false;
	}
	connect_next(connection);
	return connection->phase != PHASE_FAILED;
}

/*
 * Begin with the next address, until one can be begun with.
 */
static void
connect_next(RedisConnection *connection)
{
	const RedisAddress *address = &connection->address;
	int			n = address->local ? 1 : connection->resolver.n;

	close_context(connection);
	while (connection->next_address < n && connection->context == NULL)
	{
		int			which = (connection->attempt + connection->next_address++) % n;
		const char *host = connection->resolver.addresses[which];

		if (!AcquireExternalFD())
		{
			redis_fail(connection, "too many open files");
			return;
		}
		if (address->local)
			connection->context = redisConnectUnixNonBlock(address->host);
		else
			connection->context = redisConnectNonBlock(host, address->port);
		if (connection->context == NULL)
		{
			ReleaseExternalFD();
			redis_fail(connection, "out of memory");
			return;
		}
		if (connection->context->err != 0)
		{
			snprintf(connection->error, sizeof(connection->error),
					 "could not connect: %s", connection->context->errstr);
			close_context(connection);
		}
	}
	if (connection->context == NULL)
	{
		redis_fail(connection, "%s", connection->error);
		return;
	}
	limit_arrays(connection->context->reader);
	connection->phase = PHASE_CONNECTING;
}

/*
 * What is queued before the connection is there goes into a buffer of hiredis;
 * so nothing is, before it is (see redis_is_ready).
 */
static bool
step_connecting(RedisConnection *connection)
{
	struct pollfd poll_fd = {0};
	int			error = 0;
	socklen_t	length = sizeof(error);

	poll_fd.fd = connection->context->fd;
	poll_fd.events = POLLOUT;
	if (poll(&poll_fd, 1, 0) <= 0)
		return true;
	if (getsockopt(poll_fd.fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
		error = errno;
	if (error != 0)
	{
		errno = error;
		snprintf(connection->error, sizeof(connection->error),
				 "could not connect: %m");
		connect_next(connection);
		return connection->phase != PHASE_FAILED;
	}
	if (connection->address.tls)
	{
		connection->tls = redis_tls_begin(connection->context,
										  connection->address.host,
										  connection->ca_file,
										  connection->error,
										  sizeof(connection->error));
		if (connection->tls == NULL)
		{
			redis_fail(connection, "%s", connection->error);
			return false;
		}
	}
	connection->phase = PHASE_READY;
	return true;
}

static bool
step_ready(RedisConnection *connection, RedisHandler handler, void *arg)
{
	bool		alive;

	if (!send_queued(connection))
		return false;
	/* Its last words may say why it has gone. */
	alive = receive(connection);
	if (!answer(connection, handler, arg))
		return false;
	if (!alive)
		return context_failed(connection);
	/* What the handler has queued. */
	return send_queued(connection);
}

static bool
send_queued(RedisConnection *connection)
{
	int			done = 0;

	if (!connection->unsent || !redis_tls_may_write(connection->tls))
		return true;
	redis_tls_prepare(connection->tls);
	if (redisBufferWrite(connection->context, &done) != REDIS_OK)
		return context_failed(connection);
	connection->unsent = !done;
	return true;
}

/*
 * Read until there is nothing more for now, or enough for now.
 */
static bool
receive(RedisConnection *connection)
{
	redisReader *reader = connection->context->reader;
	size_t		got = 0;

	while (got < READ_AT_A_TIME)
	{
		size_t		before = reader->len;

		redis_tls_prepare(connection->tls);
		if (redisBufferRead(connection->context) != REDIS_OK)
			return false;
		if (reader->len == before)
			break;
		got += reader->len - before;
	}
	connection->received += got;
	return true;
}

static bool
answer(RedisConnection *connection, RedisHandler handler, void *arg)
{
	for (;;)
	{
		void	   *reply = NULL;
		Command    *command;
		void	   *tag;
		bool		go_on;

		if (redisGetReplyFromReader(connection->context, &reply) != REDIS_OK)
			return context_failed(connection);
		if (reply == NULL)
			break;
		if (connection->in_flight == 0)
		{
			if (redis_type(reply) == REDIS_ERROR)
				redis_fail(connection, "Redis said: %s", redis_text(reply));
			else
				redis_fail(connection, "an answer that nothing was asked for");
			freeReplyObject(reply);
			return false;
		}
		connection->received = 0;
		command = dlist_container(Command, node,
								  dlist_pop_head_node(&connection->commands));
		connection->in_flight--;
		tag = command->tag;
		pfree(command);
		go_on = handler(arg, tag, reply);
		freeReplyObject(reply);
		if (tag != NULL)
			pfree(tag);
		if (!go_on || connection->phase == PHASE_FAILED)
		{
			redis_fail(connection, "an answer of the wrong kind");
			return false;
		}
	}
	if (connection->received > MAX_REPLY)
	{
		redis_fail(connection, "an answer that is too long");
		return false;
	}
	return true;
}

static bool
context_failed(RedisConnection *connection)
{
	const char *tls_error = redis_tls_error(connection->tls);

	if (tls_error != NULL)
		redis_fail(connection, "TLS failed: %s", tls_error);
	else if (array_was_refused(connection->context))
		redis_fail(connection, "an answer with too many elements, or levels");
	else
		redis_fail(connection, "connection lost: %s",
				   connection->context->errstr);
	return false;
}

static void
close_context(RedisConnection *connection)
{
	if (connection->context == NULL)
		return;
	redisFree(connection->context);
	connection->context = NULL;
	redis_tls_end(connection->tls);
	connection->tls = NULL;
	connection->unsent = false;
	ReleaseExternalFD();
}

/*
 * An array within the limits; what is beyond them is taken for a lack of memory,
 * by the parser, which gives up then.  It goes as deep as it is told, and frees
 * what it has by recursion.
 */
static void *
create_limited_array(const redisReadTask *task, ArrayLength elements)
{
	int			depth = 0;

	for (const redisReadTask *outer = task->parent; outer != NULL;
		 outer = outer->parent)
		depth++;
	if (elements > MAX_ELEMENTS || depth >= MAX_DEPTH)
		return NULL;
	return create_array(task, elements);
}

static void
limit_arrays(redisReader *reader)
{
	static redisReplyObjectFunctions functions;

	if (create_array == NULL)
	{
		functions = *reader->fn;
		create_array = functions.createArray;
		functions.createArray = create_limited_array;
	}
	reader->fn = &functions;
}

/*
 * It asks for no memory but what it may have.
 */
static bool
array_was_refused(const redisContext *context)
{
	return context->err == REDIS_ERR_OOM;
}
