/*
 * client_talk.c
 *		What all clients need: chance and the clock, records of what was asked for
 *		and what came back, and the statements
 */
#include "client.h"

#include <stdarg.h>

static const char *const statements[N_STATEMENTS] = {
	[ACQUIRE] = "SELECT distlock.acquire($1, $2::interval, $3::interval, $4, $5)",
	[TRY_ACQUIRE] = "SELECT distlock.try_acquire($1, $2::interval, $3::interval, $4, $5)",
	[ACQUIRE_WITH_TOKEN] =
	"SELECT distlock.acquire_with_token($1, $6, $2::interval, $3::interval, $4, $5)",
	[TRY_ACQUIRE_WITH_TOKEN] =
	"SELECT distlock.try_acquire_with_token($1, $6, $2::interval, $3::interval, $4, $5)",
	[POLL] =
	"SELECT distlock.try_acquire_with_token($1, $6, $2::interval, $3::interval, $4, $5, "
	"retry => distlock.limit_retry(distlock.exponential_backoff('1 ms', '8 ms'), 5))",
	[EXTEND] = "SELECT distlock.extend($1, $2, $3::interval)",
	[TRY_EXTEND] = "SELECT distlock.try_extend($1, $2, $3::interval)",
	[TRY_EXTEND_AGAIN] = "SELECT distlock.try_extend($1, $2)",
	[ENSURE] = "SELECT distlock.ensure($1, $2, $3::interval)",
	[TRY_ENSURE] = "SELECT distlock.try_ensure($1, $2, $3::interval)",
	[EXTEND_ALL] = "SELECT distlock.extend_all($2, $3::interval) WHERE $1::text IS NOT NULL",
	[RELEASE] = "SELECT distlock.release($1, $2) IS NOT NULL",
	[TRY_RELEASE] = "SELECT distlock.try_release($1, $2)",
	[RELEASE_ALL] = "SELECT distlock.release_all($2) WHERE $1::text IS NOT NULL",
	[GUARD] = "SELECT distlock.guard($1, $2)",
	[TTL] = "SELECT distlock.ttl($1, $2)",
	[FENCE] = "SELECT distlock.fence($1, $2)",
	[IS_HELD] = "SELECT distlock.is_held($1)",
	[DO_EXCLUSIVELY] = "SELECT distlock.do_exclusively($1, '1 s', $2, $3::interval)",
	[TRY_DO_EXCLUSIVELY] = "SELECT distlock.try_do_exclusively($1, '1 s', $2, $3::interval)",
	[RUN_EXCLUSIVELY] = "CALL distlock.run_exclusively($1, '1 s', $2, $3::interval, $4)",
	[FORCE_RELEASE] = "SELECT distlock.force_release($1)",
	[FORCE_ACQUIRE] = "SELECT distlock.force_acquire($1, $2::interval, owner => $3)",
	[WRITE] = "INSERT INTO ledger (key, line, fence, owner) "
	"SELECT $1, coalesce(max(line), 0) + 1, $2::bigint, $3 FROM ledger WHERE key = $1 "
	"RETURNING line",
	[UNLOCK_ALL] = "SELECT pg_advisory_unlock_all() IS NOT NULL",
};

/* ----------------------------------------------------------------------------
 * Chance, the clock
 * ------------------------------------------------------------------------- */

void
die(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

/* splitmix64: each client draws a sequence of its own from the seed */
static uint64_t
draw(Client *client)
{
	uint64_t	z = (client->random += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/* from 0 to n - 1 */
int
below(Client *client, int n)
{
	return (int) (draw(client) % n);
}

bool
chance(Client *client, int percent)
{
	return below(client, 100) < percent;
}

int64_t
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (int64_t) time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

bool
has_time(const Client *client)
{
	if (client->number == n_clients)
		return __atomic_load_n(&at_work, __ATOMIC_RELAXED) > 0;
	return now() < stop_at;
}

void
pause_for(int microseconds)
{
	struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};

	nanosleep(&time, NULL);
}

/* from 1 ms up, short ones as likely as long ones */
int64_t
some_ttl(Client *client, int most_ms)
{
	int			bits = 0;
	int64_t		ttl;

	while ((1 << bits) < most_ms)
		bits++;
	ttl = (int64_t) 1000 << below(client, bits + 1);
	return ttl + below(client, (int) ttl);
}

/* ----------------------------------------------------------------------------
 * Records
 * ------------------------------------------------------------------------- */

Record *
record(Client *client, char verb, char scope, const char *key, const char *token)
{
	Record	   *r = &client->records[client->n_records++];

	if (client->n_records == MAX_RECORDS)
		die("too many records");
	memset(r, 0, sizeof(*r));
	r->verb = verb;
	r->scope = scope;
	r->state = 'U';
	snprintf(r->key, sizeof(r->key), "%s", key);
	snprintf(r->token, sizeof(r->token), "%s", token);
	strcpy(r->owner, "-");
	r->asked = now();
	return r;
}

/* What happened in the transaction that those from first on are of. */
void
settle(Client *client, int first, char state)
{
	for (int i = first; i < client->n_records; i++)
	{
		Record	   *r = &client->records[i];

		if (r->state == 'U')
			r->state = state;
	}
}

void
write_records(Client *client)
{
	for (int i = 0; i < client->n_records; i++)
	{
		Record	   *r = &client->records[i];

		fprintf(client->log,
				"%" PRId64 "\t%" PRId64 "\t%c\t%c\t%s\t%s\t%s\t%" PRId64 "\t%s\t%s\t%c\n",
				r->asked, r->answered, r->verb, r->scope, r->key, r->token, r->owner,
				r->ttl, r->outcome, r->value, r->state);
	}
	client->n_records = 0;
}

static void
count_state(Client *client, const char *state)
{
	for (int i = 0; i < MAX_STATES; i++)
	{
		if (client->states[i][0] == '\0')
			snprintf(client->states[i], sizeof(client->states[i]), "%.5s", state);
		if (strcmp(client->states[i], state) == 0)
		{
			client->state_counts[i]++;
			return;
		}
	}
}

/* ----------------------------------------------------------------------------
 * Statements
 * ------------------------------------------------------------------------- */

void
disconnect(Client *client)
{
	__atomic_store_n(&client->pid, 0, __ATOMIC_RELAXED);
	PQfinish(client->connection);
	client->connection = NULL;
}

/* Returns false when the time is over before the server can be reached. */
bool
connect_again(Client *client)
{
	while (client->connection == NULL && has_time(client))
	{
		bool		good;

		client->connection = PQconnectdb("");
		good = PQstatus(client->connection) == CONNECTION_OK;
		for (int i = 0; good && i < N_STATEMENTS; i++)
		{
			char		name[8];
			PGresult   *result;

			snprintf(name, sizeof(name), "s%d", i);
			result = PQprepare(client->connection, name, statements[i], 0, NULL);
			good = PQresultStatus(result) == PGRES_COMMAND_OK;
			if (!good && PQstatus(client->connection) == CONNECTION_OK)
			{
				const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

				/* a blow meant for the one before us; a fail point */
				if (state == NULL ||
					(strncmp(state, "57", 2) != 0 && strcmp(state, "LK099") != 0))
					die("%s: %s", statements[i], PQerrorMessage(client->connection));
			}
			PQclear(result);
		}
		if (good)
			__atomic_store_n(&client->pid, PQbackendPID(client->connection), __ATOMIC_RELAXED);
		else
		{
			disconnect(client);
			pause_for(2000);
		}
	}
	return client->connection != NULL;
}

/*
 * Note what came back.  Of a connection that is lost or was ended we do not know
 * what it did last: FATAL may come instead of the end of a commit.
 */
void
note(Client *client, Record *r, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	r->answered = now();
	if (status == PGRES_TUPLES_OK && PQntuples(result) == 1)
	{
		const char *value = PQgetvalue(result, 0, 0);

		snprintf(r->value, sizeof(r->value), "%s", value);
		strcpy(r->outcome, PQgetisnull(result, 0, 0) || strcmp(value, "f") == 0 ||
			   strcmp(value, "0") == 0 ? "none" : "ok");
	}
	else if (status == PGRES_TUPLES_OK)
		strcpy(r->outcome, "none");
	else if (status == PGRES_COMMAND_OK)
		strcpy(r->outcome, "ok");
	else
	{
		const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
		const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

		if (state == NULL || severity == NULL)
			strcpy(r->outcome, "lost");
		else
		{
			snprintf(r->outcome, sizeof(r->outcome), "%s", state);
			if (strcmp(severity, "ERROR") == 0)
				r->state = 'R';
		}
		count_state(client, r->outcome);
	}
}

bool
is_ok(const Record *r)
{
	return strcmp(r->outcome, "ok") == 0;
}

bool
failed(const Record *r)
{
	return !is_ok(r) && strcmp(r->outcome, "none") != 0;
}

void
count(Client *client, const Record *r)
{
	client->operations++;
	if (r->verb != 'a')
		return;
	if (is_ok(r))
		client->grants++;
	else if (strcmp(r->outcome, "none") == 0 || strcmp(r->outcome, "55P03") == 0)
		client->refusals++;
}

/* Returns false when the connection is gone. */
bool
execute(Client *client, Record *r, Statement statement, int n, const char *const *values)
{
	char		name[8];
	PGresult   *result;

	snprintf(name, sizeof(name), "s%d", statement);
	r->asked = now();
	result = PQexecPrepared(client->connection, name, n, values, NULL, NULL, 0);
	note(client, r, result);
	PQclear(result);
	count(client, r);
	return PQstatus(client->connection) == CONNECTION_OK;
}

/* A command that is none of distlock's; returns the outcome as note() does. */
Record
command(Client *client, const char *sql)
{
	Record		r = {.state = 'U', .asked = now()};
	PGresult   *result = PQexec(client->connection, sql);

	note(client, &r, result);
	PQclear(result);
	return r;
}

void
new_owner(Client *client, char *owner, size_t size)
{
	snprintf(owner, size, "%d.%d.%ld", round_number, client->number, client->owners++);
}

const char *
interval(int64_t microseconds, char *buffer, size_t size)
{
	snprintf(buffer, size, "%" PRId64 " us", microseconds);
	return buffer;
}

/* The keys of which each holder has a token of its own. */
void
some_key(Client *client, char *key, size_t size)
{
	int			choice = below(client, 100);

	if (choice < 50)
		snprintf(key, size, "k%d", below(client, n_keys));
	else if (choice < 97)
		snprintf(key, size, "k%d", n_keys + below(client, 100 * n_keys));
	else
		snprintf(key, size, "knew %d.%d", round_number, below(client, 1000000));
}

const char *
some_wait(Client *client)
{
	static const char *const waits[] = {
		"0", "0", "0", "1 ms", "5 ms", "20 ms", "100 ms", LONG_WAIT
	};

	return waits[below(client, 8)];
}

/*
 * Try to get a lock; the token is chosen or generated.  Returns the record, which
 * has the token of what was granted.
 */
Record *
acquire(Client *client, char scope, const char *key, int64_t ttl, const char *wait)
{
	static const Statement ways[] = {
		ACQUIRE, TRY_ACQUIRE, TRY_ACQUIRE, ACQUIRE_WITH_TOKEN, TRY_ACQUIRE_WITH_TOKEN,
		TRY_ACQUIRE_WITH_TOKEN, POLL
	};
	Statement	way = ways[below(client, 7)];
	Record	   *r = record(client, 'a', scope, key, "-");
	char		buffer[32];
	const char *values[6] = {
		key, interval(ttl, buffer, sizeof(buffer)), wait,
		scope == 'l' ? "lease" : scope == 's' ? "session" : "transaction",
		r->owner, r->token
	};
	bool		chosen = way >= ACQUIRE_WITH_TOKEN;

	if (way == POLL && strcmp(wait, "0") == 0)
		values[2] = "10 ms";
	r->ttl = ttl;
	new_owner(client, r->owner, sizeof(r->owner));
	if (chosen)
		snprintf(r->token, sizeof(r->token), "chosen %s", r->owner);
	execute(client, r, way, chosen ? 6 : 5, values);
	if (strcmp(wait, LONG_WAIT) == 0 && r->answered - r->asked > 20 * 1000000)
		client->stuck++;
	/* Without contention it takes less, but for a busy machine. */
	if (is_ok(r) && strcmp(wait, "0") != 0 && r->answered - r->asked > 2000)
		client->waits++;
	if (!chosen && is_ok(r))
	{
		snprintf(r->token, sizeof(r->token), "%s", r->value);
		strcpy(r->value, "");
	}
	return r;
}

Record *
with_token(Client *client, char verb, char scope, Statement statement, const char *key,
		   const char *token, int64_t ttl)
{
	char		buffer[32];
	const char *values[3] = {key, token, interval(ttl, buffer, sizeof(buffer))};
	Record	   *r = record(client, verb, scope, key, token);
	int			n = (verb == 'x' && statement != TRY_EXTEND_AGAIN) ? 3 : 2;

	/* whose statement has another type for the first, or leaves it out */
	if (statement == IS_HELD)
		n = 1;
	r->ttl = verb == 'x' ? ttl : 0;
	execute(client, r, statement, n, values);
	/* With the ttl of before; which that was, the judge knows */
	if (statement == TRY_EXTEND_AGAIN)
		r->ttl = 0;
	return r;
}

/* Returns the record, whose value is the line. */
Record *
write_line(Client *client, char scope, const char *key, const char *token, const char *fence)
{
	Record	   *r = record(client, 'w', scope, key, token);
	const char *values[3] = {key, fence, r->owner};

	new_owner(client, r->owner, sizeof(r->owner));
	execute(client, r, WRITE, 3, values);
	return r;
}
