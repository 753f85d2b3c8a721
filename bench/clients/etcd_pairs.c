/*
 * etcd_pairs.c
 *		Pairs of acquire and release in etcd: a transaction that puts the key
 *		if it is not there, under a lease, and a delete
 *
 *	etcd_pairs PORT CLIENTS
 *
 * See turns.h.  That is what etcd's own client does in its package concurrency, on a key
 * that nobody else wants; the lease is made once for each client, as a
 * "session" is there.  Spoken is gRPC, etcd's first protocol, with the little
 * of HTTP/2 and Protocol Buffers that three calls need, on one connection for
 * each client: nothing stands between the client and the socket.
 */
#include "turns.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

static int	port;

typedef struct Client
{
	char		key[16];
	uint64_t	lease;
	int			socket;
	uint32_t	stream;
	size_t		received;		/* data since the last WINDOW_UPDATE */
} Client;

typedef struct Bytes
{
	unsigned char data[1024];
	size_t		length;
} Bytes;

/* ------------------------------------------------------ Protocol Buffers -- */

static void
put_varint(Bytes *to, uint64_t value)
{
	for (; value >= 128; value >>= 7)
		to->data[to->length++] = value | 128;
	to->data[to->length++] = value;
}

static void
put_number(Bytes *to, int field, uint64_t value)
{
	put_varint(to, field << 3);
	put_varint(to, value);
}

static void
put_bytes(Bytes *to, int field, const void *data, size_t length)
{
	put_varint(to, field << 3 | 2);
	put_varint(to, length);
	memcpy(to->data + to->length, data, length);
	to->length += length;
}

static uint64_t
get_varint(const unsigned char **p)
{
	uint64_t	value = 0;
	int			shift = 0;

	do
		value |= (uint64_t) (**p & 127) << shift, shift += 7;
	while (*(*p)++ & 128);
	return value;
}

/* A number field of a message, 0 if it is not there. */
static uint64_t
get_number(const Bytes *message, int field)
{
	const unsigned char *p = message->data;

	while (p < message->data + message->length)
	{
		uint64_t	tag = get_varint(&p);
		uint64_t	value = get_varint(&p);

		if ((tag & 7) == 2)
			p += value;
		else if (tag >> 3 == field)
			return value;
	}
	return 0;
}

/* ---------------------------------------------------------------- HTTP/2 -- */

enum
{
	FRAME_DATA = 0, FRAME_HEADERS = 1, FRAME_RESET = 3, FRAME_SETTINGS = 4,
	FRAME_PING = 6, FRAME_GOAWAY = 7, FRAME_WINDOW_UPDATE = 8,
	END_STREAM = 1, ACK = 1, END_HEADERS = 4
};

static void
put_frame(Bytes *to, int type, int flags, uint32_t stream, const void *data,
		  size_t length)
{
	unsigned char head[9] = {length >> 16, length >> 8, length, type, flags,
	stream >> 24, stream >> 16, stream >> 8, stream};

	memcpy(to->data + to->length, head, 9);
	memcpy(to->data + to->length + 9, data, length);
	to->length += 9 + length;
}

static void
send_all(Client *client, const Bytes *bytes)
{
	if (write(client->socket, bytes->data, bytes->length) != bytes->length)
		die("etcd: cannot send");
}

static void
receive(Client *client, void *to, size_t length)
{
	for (size_t got = 0; got < length;)
	{
		ssize_t		n = read(client->socket, (char *) to + got, length - got);

		if (n <= 0)
			die("etcd: the connection broke");
		got += n;
	}
}

static void
put_header(Bytes *to, int name, const char *value)
{
	/* a literal with a name of the static table, not to be remembered */
	if (name < 15)
		to->data[to->length++] = name;
	else
	{
		to->data[to->length++] = 15;
		to->data[to->length++] = name - 15;
	}
	to->data[to->length++] = strlen(value);
	memcpy(to->data + to->length, value, strlen(value));
	to->length += strlen(value);
}

static void
send_request(Client *client, const char *path, const Bytes *message)
{
	Bytes		headers = {.length = 0};
	Bytes		body = {.length = 0};
	Bytes		request = {.length = 0};

	headers.data[headers.length++] = 0x83;	/* :method POST */
	headers.data[headers.length++] = 0x86;	/* :scheme http */
	put_header(&headers, 4, path);
	put_header(&headers, 1, "localhost");
	put_header(&headers, 31, "application/grpc");
	memcpy(headers.data + headers.length, "\0\2te\10trailers", 13);
	headers.length += 13;

	memset(body.data, 0, 3);	/* not compressed; the length has 4 bytes */
	body.data[3] = message->length >> 8;
	body.data[4] = message->length;
	memcpy(body.data + 5, message->data, message->length);
	body.length = 5 + message->length;

	put_frame(&request, FRAME_HEADERS, END_HEADERS, client->stream, headers.data,
			  headers.length);
	put_frame(&request, FRAME_DATA, END_STREAM, client->stream, body.data, body.length);
	send_all(client, &request);
}

/* The message of the answer; the headers are not looked at. */
static void
receive_answer(Client *client, Bytes *answer)
{
	int			flags;
	int			type;

	answer->length = 0;
	do
	{
		unsigned char head[9];
		unsigned char data[65536];
		Bytes		reply = {.length = 0};
		size_t		length;

		receive(client, head, 9);
		length = head[0] << 16 | head[1] << 8 | head[2];
		type = head[3];
		flags = head[4];
		if (length > sizeof(data))
			die("etcd: a frame of %zu bytes", length);
		receive(client, data, length);

		if (type == FRAME_GOAWAY || type == FRAME_RESET)
			die("etcd: refused");
		if ((type == FRAME_SETTINGS || type == FRAME_PING) && !(flags & ACK))
		{
			put_frame(&reply, type, ACK, 0, data, type == FRAME_PING ? length : 0);
			send_all(client, &reply);
		}
		if (type == FRAME_DATA)
		{
			if (answer->length + length > sizeof(answer->data))
				die("etcd: a long answer");
			memcpy(answer->data + answer->length, data, length);
			answer->length += length;
			client->received += length;
		}
	} while (!((type == FRAME_DATA || type == FRAME_HEADERS) && flags & END_STREAM));

	if (client->received > 16384)
	{
		uint32_t	increment = htonl(client->received);
		Bytes		update = {.length = 0};

		put_frame(&update, FRAME_WINDOW_UPDATE, 0, 0, &increment, 4);
		send_all(client, &update);
		client->received = 0;
	}
	if (answer->length < 5)
		die("etcd: an answer without a message");
	answer->length -= 5;
	memmove(answer->data, answer->data + 5, answer->length);
}

static void
call(Client *client, const char *path, const Bytes *message, Bytes *answer)
{
	client->stream += 2;
	send_request(client, path, message);
	receive_answer(client, answer);
}

static void
open_connection(Client *client)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	Bytes		preface = {.length = 24};
	int			on = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	client->socket = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(client->socket, (struct sockaddr *) &address, sizeof(address)) != 0)
		die("etcd: cannot connect to port %d", port);
	setsockopt(client->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	memcpy(preface.data, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
	put_frame(&preface, FRAME_SETTINGS, 0, 0, "", 0);
	send_all(client, &preface);
	client->stream = -1;		/* the first call makes it 1 */
}

/* ----------------------------------------------------------------- locks -- */

static uint64_t
grant_lease(Client *client)
{
	Bytes		request = {.length = 0};
	Bytes		answer;

	put_number(&request, 1, 3600);	/* TTL */
	call(client, "/etcdserverpb.Lease/LeaseGrant", &request, &answer);
	return get_number(&answer, 2);	/* ID */
}

static void
acquire(Client *client, const char *key, uint64_t lease)
{
	Bytes		compare = {.length = 0};
	Bytes		put = {.length = 0};
	Bytes		operation = {.length = 0};
	Bytes		request = {.length = 0};
	Bytes		answer;

	put_number(&compare, 1, 0); /* EQUAL */
	put_number(&compare, 2, 1); /* the create revision of */
	put_bytes(&compare, 3, key, strlen(key));
	put_number(&compare, 5, 0); /* is 0: it is not there */
	put_bytes(&put, 1, key, strlen(key));
	put_number(&put, 3, lease);
	put_bytes(&operation, 2, put.data, put.length);
	put_bytes(&request, 1, compare.data, compare.length);
	put_bytes(&request, 2, operation.data, operation.length);
	call(client, "/etcdserverpb.KV/Txn", &request, &answer);
	if (!get_number(&answer, 2))	/* succeeded */
		die("etcd: not acquired");
}

static void
release(Client *client, const char *key)
{
	Bytes		request = {.length = 0};
	Bytes		answer;

	put_bytes(&request, 1, key, strlen(key));
	call(client, "/etcdserverpb.KV/DeleteRange", &request, &answer);
	if (get_number(&answer, 2) != 1)	/* deleted */
		die("etcd: not held");
}

static void *
connect_client(int number)
{
	Client	   *client = calloc(1, sizeof(Client));

	snprintf(client->key, sizeof(client->key), "%d", number);
	open_connection(client);
	client->lease = grant_lease(client);
	return client;
}

static int
take_turn(void *connection)
{
	Client	   *client = connection;

	acquire(client, client->key, client->lease);
	release(client, client->key);
	return 1;
}

static pid_t
served_by(void *connection)
{
	(void) connection;
	return 0;					/* many threads */
}

int
main(int argc, char **argv)
{
	if (argc != 3)
		die("usage: etcd_pairs PORT CLIENTS");
	port = atoi(argv[1]);
	serve_turns(atoi(argv[2]));
	return 0;
}
