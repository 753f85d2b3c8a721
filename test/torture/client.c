/*
 * client.c
 *		Clients that use locks in every way there is, and write down what they
 *		asked for and what they got
 *
 *	client --clients N --seconds S --seed SEED --round R --keys K --log DIRECTORY
 *		[--sabotage N] [--slow]
 *
 * Where the server is says the environment, as for psql.  Each client is a thread
 * with a connection, and connects again whenever it has lost that; with --sabotage,
 * one more cancels and terminates N of their statements a second.  With --slow,
 * nothing is sent in batches.  SIGTERM means that the time is over.
 *
 * The locks are of three kinds, told by the first letter of the key: of those in
 * "k" each holder has a token of its own, in "s" tokens are shared, in "f" locks
 * are taken away by force.  Under the first, clients write lines into the table
 * "ledger", each with the number after the highest that it sees; two with the
 * same number mean that somebody worked with stale data.
 *
 * Each client writes a file, a line for each thing that was asked for:
 *
 *	asked answered verb scope key token owner ttl outcome value state
 *
 * with a tab between them.  Times are of the monotonic clock, in microseconds; so
 * is the ttl.  The outcome is "ok", "none" (NULL, false, 0) or an SQLSTATE, or
 * "lost" for a connection; the value is what was returned.  What is known of the
 * transaction is its state: C committed, R rolled back, U nobody told us.  Verbs:
 *
 *	a	acquire		x	extend		r	release		g	guard
 *	l	look		f	force		w	write		d	disconnect
 *	e	end of the transaction that held the lock by scope or guard
 *	!	something with a wrong token
 *
 * An owner is "ROUND.CLIENT.NUMBER": no two grants have the same.
 */
#include "client.h"

#include <getopt.h>
#include <signal.h>

int	n_clients = 8;
double seconds = 5;
uint64_t seed = 1;
int	round_number = 0;
int	n_keys = 8;
const char *directory = ".";
double sabotage = 0;
bool slow = false;

Client *clients;
_Atomic int64_t stop_at;
int			at_work;

/* ----------------------------------------------------------------------------
 * What clients do
 * ------------------------------------------------------------------------- */

/*
 * Take what came back of a statement in a batch: its result, perhaps the error that
 * its commit ended with, and the sync, with ends of results (NULL) in between.
 * Only the sync tells that it is committed.  Returns false when there is none: the
 * connection is gone, or libpq has lost count after an error in a commit.
 */
static bool
await_sync(Client *client, Record *r)
{
	for (int ends = 0; ends < 3;)
	{
		PGresult   *result = PQgetResult(client->connection);
		bool		sync = PQresultStatus(result) == PGRES_PIPELINE_SYNC;

		if (result == NULL)
			ends++;
		else if (!sync)
			note(client, r, result);
		PQclear(result);
		if (PQstatus(client->connection) != CONNECTION_OK)
			return false;
		if (sync)
		{
			r->answered = now();
			if (!failed(r))
				r->state = 'C';
			return true;
		}
	}
	return false;
}

/* The parameters are the record's: key, token, and the ttl of an extend. */
static void
send_with_token(Client *client, Statement statement, const Record *r)
{
	char		name[8];
	char		ttl[32];
	const char *values[3] = {r->key, r->token, interval(r->ttl, ttl, sizeof(ttl))};

	snprintf(name, sizeof(name), "s%d", statement);
	PQsendQueryPrepared(client->connection, name,
						statement == IS_HELD ? 1 : r->verb == 'x' ? 3 : 2, values,
						NULL, NULL, 0);
	PQpipelineSync(client->connection);
}

static Record *
send_acquire(Client *client)
{
	char		key[32];
	char		name[8];
	char		ttl[32];
	Record	   *r;

	some_key(client, key, sizeof(key));
	r = record(client, 'a', 'l', key, "");
	new_owner(client, r->owner, sizeof(r->owner));
	snprintf(r->token, sizeof(r->token), "chosen %s", r->owner);
	r->ttl = some_ttl(client, 60);
	snprintf(name, sizeof(name), "s%d", TRY_ACQUIRE_WITH_TOKEN);
	PQsendQueryPrepared(client->connection, name, 6,
						(const char *const[]) {r->key, interval(r->ttl, ttl, sizeof(ttl)),
						"0", "lease", r->owner, r->token}, NULL, NULL, 0);
	PQpipelineSync(client->connection);
	return r;
}

/*
 * Statements of their own, sent all at once; whether the lock was granted, those that
 * follow do not know.
 */
static void
batch(Client *client)
{
	static const Statement looks[] = {FENCE, TTL, IS_HELD};
	PGconn	   *connection = client->connection;
	int			first = client->n_records;

	PQenterPipelineMode(connection);
	for (int locks = 1 + below(client, BATCH); locks > 0; locks--)
	{
		const Record *granted = send_acquire(client);
		Record	   *r;

		for (int steps = below(client, 5); steps > 0; steps--)
		{
			if (chance(client, 20))
			{
				r = record(client, 'x', 'l', granted->key, granted->token);
				r->ttl = some_ttl(client, 60);
				send_with_token(client, TRY_EXTEND, r);
			}
			else
			{
				r = record(client, 'l', 'l', granted->key, granted->token);
				send_with_token(client, looks[below(client, 3)], r);
			}
		}
		if (chance(client, 75))
		{
			r = record(client, 'r', 'l', granted->key, granted->token);
			send_with_token(client, TRY_RELEASE, r);
		}
	}

	for (int i = first; i < client->n_records; i++)
	{
		Record	   *r = &client->records[i];

		if (!await_sync(client, r))
		{
			/* What became of this one and of the rest nobody told us. */
			for (; i < client->n_records; i++)
			{
				strcpy(client->records[i].outcome, "lost");
				client->records[i].answered = now();
			}
			disconnect(client);
			client->lost++;
			return;
		}
		count(client, r);
	}
	PQexitPipelineMode(connection);
}

/* A statement that committed by itself, or not. */
static bool
alone(Client *client, Record *r)
{
	if (!failed(r))
		r->state = 'C';
	return PQstatus(client->connection) == CONNECTION_OK;
}

/* A lease in statements of its own; the token is generated or chosen. */
static void
lease(Client *client)
{
	char		key[32];
	char		token[64];
	Record	   *r;

	some_key(client, key, sizeof(key));
	r = acquire(client, 'l', key, some_ttl(client, 100), some_wait(client));
	if (!alone(client, r) || !is_ok(r))
		return;
	strcpy(token, r->token);
	for (int steps = below(client, 4); steps > 0; steps--)
	{
		static const Statement ways[] = {
			EXTEND, TRY_EXTEND, TRY_EXTEND_AGAIN, ENSURE, TRY_ENSURE, EXTEND_ALL
		};
		static const Statement looks[] = {TTL, FENCE, FENCE, IS_HELD};

		if (chance(client, 50))
			r = with_token(client, 'x', 'l', ways[below(client, 6)], key, token,
						   some_ttl(client, 100));
		else
		{
			Statement	look = looks[below(client, 4)];

			r = with_token(client, 'l', 'l', look, key, token, 0);
			if (look != FENCE)
				strcpy(r->value, "");
		}
		if (!alone(client, r))
			return;
		if (chance(client, 20))
			pause_for(below(client, 3000));
	}
	if (chance(client, 80))
	{
		static const Statement ways[] = {RELEASE, TRY_RELEASE, RELEASE_ALL};

		alone(client, with_token(client, 'r', 'l', ways[below(client, 3)], key, token, 0));
	}
}

/* As a wrong token never does anything, what it did has to be nothing. */
static void
wrong_token(Client *client)
{
	static const Statement ways[] = {
		EXTEND, TRY_EXTEND, TRY_ENSURE, EXTEND_ALL, RELEASE, TRY_RELEASE, RELEASE_ALL,
		GUARD, TTL, FENCE
	};
	char		key[32];
	char		token[64];
	char		ttl[32];
	const char *values[3] = {key, token, interval(some_ttl(client, 60000), ttl, sizeof(ttl))};
	Statement	way = ways[below(client, 10)];
	Record	   *r;

	some_key(client, key, sizeof(key));
	/* one that another client has never had, one of earlier, something else */
	switch (below(client, 3))
	{
		case 0:
			snprintf(token, sizeof(token), "chosen %d.%d.x", round_number,
					 below(client, n_clients));
			break;
		case 1:
			snprintf(token, sizeof(token), "chosen %d.%d.0", round_number - 1,
					 below(client, n_clients));
			break;
		default:
			strcpy(token, "wrong");
			break;
	}
	r = record(client, '!', 'l', key, token);
	execute(client, r, way, way <= EXTEND_ALL ? 3 : 2, values);
	alone(client, r);
}

static bool
begin(Client *client)
{
	static const char *const levels[] = {
		"BEGIN", "BEGIN", "BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ",
		"BEGIN ISOLATION LEVEL SERIALIZABLE"
	};
	Record		r = command(client, levels[below(client, 5)]);

	return is_ok(&r);
}

/*
 * End the transaction that the records from first on are of, for better or worse.
 * When it holds a lock by its scope or a guard, the record of its end says until
 * when that was surely so: until the end was asked for, if that came out well.
 */
static void
end(Client *client, int first, bool good)
{
	int			ended = client->n_records;
	int			choice = below(client, 10);
	Record		r;

	/* What the transaction holds until it ends; after an error that is nothing. */
	for (int i = first; good && i < ended; i++)
	{
		Record	   *of = &client->records[i];

		if ((of->verb == 'g' || (of->verb == 'a' && of->scope == 't')) && is_ok(of) &&
			of->state != 'R')
			record(client, 'e', of->scope, of->key, of->token);
	}
	if (PQstatus(client->connection) != CONNECTION_OK)
	{
		strcpy(r.outcome, "lost");
		settle(client, first, 'R');
	}
	else if (!good || choice < 2)
	{
		r = command(client, "ROLLBACK");
		settle(client, first, 'R');
	}
	else if (choice < 9)
	{
		r = command(client, "COMMIT");
		settle(client, first, is_ok(&r) && PQstatus(client->connection) == CONNECTION_OK ? 'C' :
			   r.state == 'R' ? 'R' : 'U');
	}
	else
	{
		char		gid[64];
		char		sql[128];
		bool		commit = chance(client, 70);

		new_owner(client, gid, sizeof(gid));
		snprintf(sql, sizeof(sql), "PREPARE TRANSACTION '%s'", gid);
		r = command(client, sql);
		if (!is_ok(&r))
			settle(client, first, r.state == 'R' ? 'R' : 'U');
		else
		{
			/* Until this has succeeded, it may be ended by those who clean up. */
			snprintf(sql, sizeof(sql), "%s PREPARED '%s'", commit ? "COMMIT" : "ROLLBACK", gid);
			r = command(client, sql);
			settle(client, first, is_ok(&r) ? (commit ? 'C' : 'R') : 'U');
		}
	}
	for (int i = ended; i < client->n_records; i++)
	{
		client->records[i].answered = now();
		strcpy(client->records[i].outcome, is_ok(&r) ? "ok" : "lost");
	}
	if (PQtransactionStatus(client->connection) != PQTRANS_IDLE &&
		PQstatus(client->connection) == CONNECTION_OK)
		command(client, "ROLLBACK");
}

/* Any number of calls in a transaction, with savepoints. */
static void
transaction(Client *client)
{
	int			first = client->n_records;
	int			savepoints[8];
	int			depth = 0;
	bool		good = true;

	if (!begin(client))
		return;
	for (int steps = 1 + below(client, 6); good && steps > 0; steps--)
	{
		int			choice = below(client, 10);
		char		sql[64];
		Record	   *r = NULL;

		if (choice < 5)
		{
			char		key[32];
			char		token[64];
			char		scope = chance(client, 70) ? 'l' : 't';

			some_key(client, key, sizeof(key));
			r = acquire(client, scope, key, some_ttl(client, 200), some_wait(client));
			if (is_ok(r) && chance(client, 50))
			{
				strcpy(token, r->token);
				r = with_token(client, 'l', scope, FENCE, key, token, 0);
				if (is_ok(r))
				{
					char		fence[64];

					strcpy(fence, r->value);
					r = write_line(client, scope, key, token, fence);
				}
				/* A lease that has expired may be another's before we commit. */
				if (!failed(r) && scope == 'l')
					r = with_token(client, 'g', 'l', GUARD, key, token, 0);
			}
			else if (is_ok(r) && scope == 'l' && chance(client, 50))
			{
				strcpy(token, r->token);
				if (chance(client, 50))
					r = with_token(client, 'x', 'l', TRY_EXTEND, key, token,
								   some_ttl(client, 100));
				if (!failed(r))
					r = with_token(client, 'r', 'l', TRY_RELEASE, key, token, 0);
			}
		}
		else if ((choice < 8 || depth == 0) && depth < 8)
		{
			Record		done;

			savepoints[depth] = client->n_records;
			snprintf(sql, sizeof(sql), "SAVEPOINT s%d", depth++);
			done = command(client, sql);
			good = is_ok(&done);
		}
		else
		{
			bool		release = chance(client, 30);
			Record		done;

			depth = below(client, depth);
			snprintf(sql, sizeof(sql), "%s SAVEPOINT s%d", release ? "RELEASE" : "ROLLBACK TO",
					 depth);
			done = command(client, sql);
			good = is_ok(&done);
			if (good && !release)
				settle(client, savepoints[depth++], 'R');
		}
		if (r != NULL && failed(r))
		{
			Record		done;

			/* Go on from a savepoint, if there is one. */
			good = false;
			if (depth > 0 && PQstatus(client->connection) == CONNECTION_OK)
			{
				snprintf(sql, sizeof(sql), "ROLLBACK TO SAVEPOINT s%d", depth - 1);
				done = command(client, sql);
				good = is_ok(&done);
				settle(client, savepoints[depth - 1], 'R');
			}
		}
	}
	end(client, first, good);
}

/* A lease, and transactions that work under its guard. */
static void
guarded_work(Client *client)
{
	char		key[32];
	char		token[64];
	Record	   *r;

	some_key(client, key, sizeof(key));
	r = acquire(client, 'l', key, some_ttl(client, 30), some_wait(client));
	if (!alone(client, r) || !is_ok(r))
		return;
	strcpy(token, r->token);
	for (int n = 1 + below(client, 3); n > 0; n--)
	{
		int			first = client->n_records;

		if (chance(client, 30))
			pause_for(below(client, 4000));
		if (!begin(client))
			return;
		r = with_token(client, 'g', 'l', GUARD, key, token, 0);
		if (is_ok(r))
		{
			char		fence[64];

			strcpy(fence, r->value);
			r = write_line(client, 'l', key, token, fence);
		}
		end(client, first, !failed(r));
		if (client->connection == NULL || PQstatus(client->connection) != CONNECTION_OK)
			return;
	}
	alone(client, with_token(client, 'r', 'l', TRY_RELEASE, key, token, 0));
}

/* Held by the session; perhaps until its end. */
static void
session(Client *client)
{
	char		key[32];
	char		token[64];
	char		fence[64];
	Record	   *r;

	snprintf(key, sizeof(key), "k%d", below(client, n_keys));
	r = acquire(client, 's', key, some_ttl(client, 20), some_wait(client));
	if (!alone(client, r) || !is_ok(r))
		return;
	strcpy(token, r->token);
	r = with_token(client, 'l', 's', FENCE, key, token, 0);
	if (!alone(client, r))
		return;
	strcpy(fence, r->value);
	for (int n = below(client, 4); is_ok(r) && n > 0; n--)
	{
		if (!alone(client, r = write_line(client, 's', key, token, fence)))
			return;
	}
	switch (below(client, 10))
	{
		case 0:
			r = record(client, 'd', 's', key, token);
			r->state = 'C';
			strcpy(r->outcome, "ok");
			disconnect(client);
			r->answered = now();
			break;
		case 1:
			r = record(client, 'd', 's', key, token);
			execute(client, r, UNLOCK_ALL, 0, NULL);
			alone(client, r);
			break;
		default:
			/* What was cancelled is to be held no longer than this turn. */
			while ((r = with_token(client, 'r', 's', TRY_RELEASE, key, token, 0),
					alone(client, r)) && failed(r))
				;
			break;
	}
}

static void
exclusively(Client *client)
{
	char		key[32];
	char		owner[32];
	char		sql[256];
	const char *values[4] = {key, sql, some_wait(client), owner};
	bool		run = chance(client, 40);
	Record	   *r;

	some_key(client, key, sizeof(key));
	new_owner(client, owner, sizeof(owner));
	snprintf(sql, sizeof(sql),
			 "INSERT INTO ledger (key, line, fence, owner) SELECT '%s', "
			 "coalesce(max(line), 0) + 1, distlock.current_fence(), '%s' FROM ledger "
			 "WHERE key = '%s'", key, owner, key);
	r = record(client, 'w', '-', key, "-");
	strcpy(r->owner, owner);
	if (run)
		execute(client, r, RUN_EXCLUSIVELY, 4, values);
	else
		execute(client, r, chance(client, 50) ? DO_EXCLUSIVELY : TRY_DO_EXCLUSIVELY, 3, values);
	alone(client, r);
	/* A transaction of its own: the line may be committed, and then an error comes. */
	if (run && failed(r))
		r->state = 'U';
}

/* Several clients with the same token: whoever has it holds the lock. */
static void
shared(Client *client)
{
	static const Statement ways[] = {
		TRY_EXTEND, TRY_RELEASE, RELEASE_ALL, EXTEND_ALL, FENCE, GUARD, TTL
	};
	char		key[32];
	char		token[64];
	char		owner[64];
	char		ttl[32];
	const char *values[6] = {
		key, interval(some_ttl(client, 30), ttl, sizeof(ttl)), some_wait(client), "lease",
		owner, token
	};
	Record	   *r;

	snprintf(key, sizeof(key), "s%d", below(client, SHARED_KEYS));
	snprintf(token, sizeof(token), "shared %d", below(client, 3));
	snprintf(owner, sizeof(owner), "shared");
	r = record(client, 'a', 'l', key, token);
	execute(client, r, TRY_ACQUIRE_WITH_TOKEN, 6, values);
	if (!alone(client, r) || !is_ok(r))
		return;
	for (int n = below(client, 4); n > 0; n--)
	{
		Statement	way = ways[below(client, 7)];
		bool		extends = way == TRY_EXTEND || way == EXTEND_ALL;
		bool		releases = way == TRY_RELEASE || way == RELEASE_ALL;

		r = with_token(client, extends ? 'x' : releases ? 'r' : 'l', 'l', way, key, token,
					   some_ttl(client, 30));
		if (!alone(client, r))
			return;
	}
}

static void
force(Client *client)
{
	char		key[32];
	char		ttl[32];
	const char *values[3] = {key, interval(some_ttl(client, 60), ttl, sizeof(ttl)), "forced"};
	Record	   *r;

	snprintf(key, sizeof(key), "f%d", below(client, FORCED_KEYS));
	if (chance(client, 70))
	{
		r = acquire(client, 'l', key, some_ttl(client, 100), some_wait(client));
		if (alone(client, r) && is_ok(r) && chance(client, 50))
		{
			char		token[64];

			strcpy(token, r->token);
			alone(client, with_token(client, 'r', 'l', TRY_RELEASE, key, token, 0));
		}
		return;
	}
	r = record(client, 'f', 'l', key, "-");
	if (chance(client, 50))
		execute(client, r, FORCE_RELEASE, 1, values);
	else
		execute(client, r, FORCE_ACQUIRE, 3, values);
	strcpy(r->value, "");
	alone(client, r);
}

static void
change_settings(Client *client)
{
	static const char *const settings[] = {
		"SET statement_timeout = '3ms'", "SET statement_timeout = '20ms'",
		"SET statement_timeout = 0", "SET statement_timeout = 0",
		"SET lock_timeout = '2ms'", "SET lock_timeout = 0", "SET lock_timeout = 0",
		"SET synchronous_commit = off", "SET synchronous_commit = on",
		"CALL distlock.purge()"
	};

	command(client, settings[below(client, 10)]);
}

static void *
work(void *arg)
{
	Client	   *client = arg;

	while (has_time(client))
	{
		int			choice = below(client, 100);

		if (client->connection == NULL && !connect_again(client))
			break;
		if (choice < (slow ? 10 : 50))
			batch(client);
		else if (choice < 62)
			lease(client);
		else if (choice < 76)
			transaction(client);
		else if (choice < 82)
			guarded_work(client);
		else if (choice < 86)
			session(client);
		else if (choice < 90)
			exclusively(client);
		else if (choice < 93)
			shared(client);
		else if (choice < 96)
			force(client);
		else if (choice < 99)
			wrong_token(client);
		else
			change_settings(client);
		write_records(client);
		if (client->connection != NULL && PQstatus(client->connection) != CONNECTION_OK)
		{
			client->lost++;
			disconnect(client);
		}
	}
	if (client->connection != NULL)
		disconnect(client);
	__atomic_sub_fetch(&at_work, 1, __ATOMIC_RELAXED);
	return NULL;
}

/*
 * Cancels what they do and ends their sessions, and the transactions they leave: as
 * long as anybody is there, who might wait for one that was prepared.
 */
static void *
spoil(void *arg)
{
	Client	   *client = arg;
	int64_t		cleaned = 0;

	while (has_time(client))
	{
		char		sql[128];
		Client	   *victim = &clients[below(client, n_clients)];
		int			pid = __atomic_load_n(&victim->pid, __ATOMIC_RELAXED);

		pause_for(1 + below(client, (int) (2e6 / (sabotage > 0 ? sabotage : 10))));
		if (client->connection == NULL && !connect_again(client))
			break;
		if (pid != 0 && sabotage > 0 && now() < stop_at)
		{
			snprintf(sql, sizeof(sql), "SELECT %s(%d)",
					 chance(client, 80) ? "pg_cancel_backend" : "pg_terminate_backend", pid);
			command(client, sql);
			client->operations++;
		}
		if (now() - cleaned > 200000)
		{
			/* An error ends the list; the next one comes soon. */
			PGresult   *result = PQexec(client->connection,
										"SELECT format('ROLLBACK PREPARED %L', gid) "
										"FROM pg_prepared_xacts "
										"WHERE gid ~ '^[0-9]+[.]' AND "
										"prepared < clock_timestamp() - interval '300 ms'");

			for (int i = 0; i < PQntuples(result); i++)
				command(client, PQgetvalue(result, i, 0));
			PQclear(result);
			cleaned = now();
		}
		if (PQstatus(client->connection) != CONNECTION_OK)
			disconnect(client);
	}
	if (client->connection != NULL)
		disconnect(client);
	return NULL;
}

/* ----------------------------------------------------------------------------
 * The program
 * ------------------------------------------------------------------------- */

static void
read_options(int argc, char **argv)
{
	static const struct option options[] = {
		{"clients", required_argument, NULL, 'c'},
		{"seconds", required_argument, NULL, 't'},
		{"seed", required_argument, NULL, 's'},
		{"round", required_argument, NULL, 'r'},
		{"keys", required_argument, NULL, 'k'},
		{"log", required_argument, NULL, 'l'},
		{"sabotage", required_argument, NULL, 'x'},
		{"slow", no_argument, NULL, 'w'},
		{NULL, 0, NULL, 0}
	};
	int			option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		switch (option)
		{
			case 'c':
				n_clients = atoi(optarg);
				break;
			case 't':
				seconds = atof(optarg);
				break;
			case 's':
				seed = strtoull(optarg, NULL, 10);
				break;
			case 'r':
				round_number = atoi(optarg);
				break;
			case 'k':
				n_keys = atoi(optarg);
				break;
			case 'l':
				directory = optarg;
				break;
			case 'x':
				sabotage = atof(optarg);
				break;
			case 'w':
				slow = true;
				break;
			default:
				exit(2);
		}
	}
	if (n_clients < 1 || n_keys < 1 || seconds <= 0 || optind < argc)
		die("a client, a key and a second are the least");
}

static void
stop(int signal_number)
{
	stop_at = 0;
}

/* How often each error was met, by all clients. */
static void
print_states(void)
{
	for (int i = 0; i < n_clients; i++)
	{
		for (int j = 0; j < MAX_STATES && clients[i].states[j][0] != '\0'; j++)
			printf("error %s %ld\n", clients[i].states[j], clients[i].state_counts[j]);
	}
}

int
main(int argc, char **argv)
{
	long		operations = 0,
				grants = 0,
				refusals = 0,
				waits = 0,
				lost = 0,
				stuck = 0;
	int64_t		began = now();

	read_options(argc, argv);
	clients = calloc(n_clients + 1, sizeof(Client));
	stop_at = began + (int64_t) (seconds * 1e6);
	at_work = n_clients;
	signal(SIGTERM, stop);
	for (int i = 0; i <= n_clients; i++)
	{
		Client	   *client = &clients[i];
		char		path[1024];

		client->number = i;
		client->random = seed * UINT64_C(1000003) + (uint64_t) round_number * 1009 + i;
		snprintf(path, sizeof(path), "%s/client-%d.log", directory, i);
		if (i < n_clients && (client->log = fopen(path, "w")) == NULL)
			die("cannot write %s", path);
		if (pthread_create(&client->thread, NULL, i < n_clients ? work : spoil, client) != 0)
			die("cannot start a thread");
	}
	for (int i = 0; i <= n_clients; i++)
	{
		Client	   *client = &clients[i];

		pthread_join(client->thread, NULL);
		if (i == n_clients)
			break;
		if (fclose(client->log) != 0)
			die("cannot write what client %d did", i);
		operations += client->operations;
		grants += client->grants;
		refusals += client->refusals;
		waits += client->waits;
		lost += client->lost;
		stuck += client->stuck;
	}
	printf("seconds %.3f\noperations %ld\ngrants %ld\nrefusals %ld\nwaits %ld\n"
		   "interrupts %ld\nlost %ld\nstuck %ld\n", (now() - began) / 1e6, operations,
		   grants, refusals, waits, clients[n_clients].operations, lost, stuck);
	print_states();
	return 0;
}
