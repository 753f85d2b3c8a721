/*-------------------------------------------------------------------------
 *
 * redis.c
 *	  Fuzzes the connection to Redis, by a server that says anything.
 *
 * sources: redis.c
 * with: redis_tls.c resolve.c
 * lines: 70
 *
 * The server is at the other end of a socket, in this process.  What it says comes
 * in pieces; what it is told has to be what was queued.  All of a reply is read,
 * and at the end nothing may be left, neither of memory nor of open files.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "storage/fd.h"
#include "utils/memutils.h"

#include "redis.h"

#define TIMEOUT_MS 1000

static int	external = 0;
static int	listener = -1;
static char path[64];

static StringInfoData queued;
static int	num_queued;
static int	num_answered;
static FuzzInput *decisions;

static void start_listening(void);
static void queue(RedisConnection *connection, FuzzInput *input);
static void say(int peer, FuzzInput *input);
static void hear(int peer);
static bool handle(void *arg, void *tag, RedisReply *reply);
static void look_at(const RedisReply *reply, int depth);

bool
AcquireExternalFD(void)
{
	external++;
	return true;
}

void
ReleaseExternalFD(void)
{
	external--;
}

void
fuzz_one(FuzzInput *input)
{
	RedisAddress *address = palloc0(sizeof(RedisAddress));
	RedisConnection *connection;
	int			chunks = fuzz_top_chunks();
	int			peer;
	bool		alive = true;

	start_listening();
	address->local = true;
	strlcpy(address->host, path, sizeof(address->host));
	initStringInfo(&queued);
	num_queued = num_answered = 0;
	decisions = input;

	connection = redis_open(address, "", TIMEOUT_MS, fuzz_byte(input));
	peer = accept(listener, NULL, NULL);
	fuzz_check(peer >= 0 && fcntl(peer, F_SETFL, O_NONBLOCK) == 0);
	fuzz_check(redis_step(connection, handle, NULL));
	fuzz_check(redis_is_ready(connection) && external == 1);

	while (alive && input->length > 0)
	{
		switch (fuzz_up_to(input, 7))
		{
			case 0:
				queue(connection, input);
				break;
			case 1:
			case 2:
			case 3:
				say(peer, input);
				break;
			case 4:
				hear(peer);
				break;
			case 5:
				fuzz_pass_time(fuzz_up_to(input, 1200) * 1000);
				break;
			case 6:
				if (fuzz_up_to(input, 31) == 31)
					shutdown(peer, fuzz_byte(input) & 1 ? SHUT_RDWR : SHUT_WR);
				break;
			default:
				break;
		}
		alive = redis_step(connection, handle, NULL);
		/* Some is done at once, the rest at the next step. */
		fuzz_check(num_answered <= num_queued);
		fuzz_check(redis_in_flight(connection) == num_queued - num_answered);
		fuzz_check(alive == (redis_error(connection)[0] == '\0'));
		fuzz_check(redis_socket(connection) >= 0);
		fuzz_check(redis_events(connection) != 0);
		if (alive && num_queued > num_answered)
			fuzz_check(redis_deadline(connection) != PG_INT64_MAX);
	}
	if (!alive)
	{
		queue(connection, input);
		fuzz_check(!redis_step(connection, handle, NULL));
	}
	redis_close(connection);
	close(peer);
	fuzz_check(external == 0);
	fuzz_check(fuzz_top_chunks() == chunks);
}

static void
start_listening(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};

	if (listener >= 0)
		return;
	snprintf(path, sizeof(path), "fuzz-redis-%d", (int) getpid());
	strlcpy(name.sun_path, path, sizeof(name.sun_path));
	unlink(path);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	fuzz_check(bind(listener, (struct sockaddr *) &name, sizeof(name)) == 0);
	fuzz_check(listen(listener, 1) == 0);
}

/*
 * A command of a few words; in "queued" as it has to arrive.
 */
static void
queue(RedisConnection *connection, FuzzInput *input)
{
	int			words = 1 + fuzz_up_to(input, 3);
	bool		failed = redis_error(connection)[0] != '\0';

	redis_begin(connection, words);
	appendStringInfo(&queued, "*%d\r\n", words);
	for (int i = 0; i < words; i++)
	{
		size_t		length = fuzz_up_to(input, 40);
		char	   *word = fuzz_bytes(input, &length);

		redis_add(connection, word, length);
		appendStringInfo(&queued, "$%zu\r\n", length);
		appendBinaryStringInfo(&queued, word, length);
		appendStringInfoString(&queued, "\r\n");
	}
	redis_end(connection, fuzz_byte(input) & 1 ? NULL :
			  MemoryContextAlloc(TopMemoryContext, 8));
	if (!failed)
		num_queued++;
}

/*
 * So many bytes, or one so many times.
 */
static void
say(int peer, FuzzInput *input)
{
	size_t		length = fuzz_up_to(input, 300);
	char	   *bytes;

	if (fuzz_up_to(input, 63) == 63)
	{
		int			byte = fuzz_byte(input);

		length *= 1000;
		bytes = memset(palloc(length), byte, length);
	}
	else
		bytes = fuzz_bytes(input, &length);
	(void) !send(peer, bytes, length, MSG_NOSIGNAL);
}

static void
hear(int peer)
{
	char	   *heard = palloc(queued.len + 1);
	ssize_t		length = recv(peer, heard, queued.len + 1, 0);

	if (length <= 0)
		return;
	fuzz_check(length <= queued.len);
	fuzz_check(memcmp(heard, queued.data, length) == 0);
	memmove(queued.data, queued.data + length, queued.len - length);
	queued.len -= length;
}

static bool
handle(void *arg, void *tag, RedisReply *reply)
{
	int			decision = fuzz_up_to(decisions, 31);

	num_answered++;
	if (tag != NULL)
		memset(tag, 0, 8);
	look_at(reply, 0);
	return decision != 31;
}

static void
look_at(const RedisReply *reply, int depth)
{
	fuzz_check(depth <= 4);
	switch (redis_type(reply))
	{
		case REDIS_TEXT:
		case REDIS_ERROR:
			fuzz_check(redis_text(reply)[redis_length(reply)] == '\0');
			fuzz_check(strlen(redis_text(reply)) <= redis_length(reply));
			break;
		case REDIS_INTEGER:
			(void) redis_integer(reply);
			break;
		case REDIS_NIL:
			break;
		case REDIS_ARRAY:
			fuzz_check(redis_elements(reply) >= 0);
			for (int i = 0; i < redis_elements(reply); i++)
				look_at(redis_element(reply, i), depth + 1);
	}
}
