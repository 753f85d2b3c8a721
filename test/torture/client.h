/*
 * client.h
 *		What the clients of client.c are, what they write down, and how they talk to
 *		the server
 */
#ifndef CLIENT_H
#define CLIENT_H

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libpq-fe.h>

#define MAX_RECORDS		256		/* of a transaction or a batch */
#define BATCH			8		/* locks in a batch */
#define FORCED_KEYS		4
#define SHARED_KEYS		4
#define MAX_STATES		64		/* different SQLSTATEs that are counted */

typedef enum Statement
{
	ACQUIRE, TRY_ACQUIRE, ACQUIRE_WITH_TOKEN, TRY_ACQUIRE_WITH_TOKEN, POLL,
	EXTEND, TRY_EXTEND, TRY_EXTEND_AGAIN, ENSURE, TRY_ENSURE, EXTEND_ALL,
	RELEASE, TRY_RELEASE, RELEASE_ALL, GUARD, TTL, FENCE, IS_HELD,
	DO_EXCLUSIVELY, TRY_DO_EXCLUSIVELY, RUN_EXCLUSIVELY,
	FORCE_RELEASE, FORCE_ACQUIRE, WRITE, UNLOCK_ALL, N_STATEMENTS
} Statement;

typedef struct Record
{
	int64_t		asked;
	int64_t		answered;
	char		verb;
	char		scope;			/* l, s or t; of a lock that is not known: - */
	char		state;			/* C, R, U */
	char		key[32];
	char		token[64];
	char		owner[32];
	int64_t		ttl;
	char		outcome[8];
	char		value[64];
} Record;

typedef struct Client
{
	pthread_t	thread;
	int			number;
	uint64_t	random;
	PGconn	   *connection;
	int			pid;			/* of the backend, 0: not connected */
	FILE	   *log;
	long		owners;			/* how many have been made up */
	Record		records[MAX_RECORDS];
	int			n_records;		/* not written yet */

	long		operations;
	long		grants;
	long		refusals;
	long		waits;			/* grants that had to be waited for */
	long		lost;			/* connections */
	long		stuck;			/* waits for what must have been free long before */
	char		states[MAX_STATES][6];
	long		state_counts[MAX_STATES];
} Client;

/* The options, see client.c */
extern int	n_clients;
extern double seconds;
extern uint64_t seed;
extern int	round_number;
extern int	n_keys;
extern const char *directory;
extern double sabotage;
extern bool slow;

extern Client *clients;
extern _Atomic int64_t stop_at; /* by now() */
extern int	at_work;			/* clients that have not finished yet */

/* Nobody holds anything for long: nobody waits to the end of the last of these. */
#define LONG_WAIT "30 s"

/* client_talk.c */
extern void die(const char *format,...);
extern int	below(Client *client, int n);
extern bool	chance(Client *client, int percent);
extern int64_t now(void);
extern bool	has_time(const Client *client);
extern void pause_for(int microseconds);
extern int64_t some_ttl(Client *client, int most_ms);
extern Record *record(Client *client, char verb, char scope, const char *key,
		const char *token);
extern void settle(Client *client, int first, char state);
extern void write_records(Client *client);
extern void disconnect(Client *client);
extern bool	connect_again(Client *client);
extern void note(Client *client, Record *r, PGresult *result);
extern bool	is_ok(const Record *r);
extern bool	failed(const Record *r);
extern void count(Client *client, const Record *r);
extern bool	execute(Client *client, Record *r, Statement statement, int n,
		const char *const *values);
extern Record command(Client *client, const char *sql);
extern void new_owner(Client *client, char *owner, size_t size);
extern const char *interval(int64_t microseconds, char *buffer, size_t size);
extern void some_key(Client *client, char *key, size_t size);
extern const char *some_wait(Client *client);
extern Record *acquire(Client *client, char scope, const char *key, int64_t ttl,
		const char *wait);
extern Record *with_token(Client *client, char verb, char scope, Statement statement,
		const char *key, const char *token, int64_t ttl);
extern Record *write_line(Client *client, char scope, const char *key,
		const char *token, const char *fence);

#endif
