/*
 * pg_turns.c
 *		Statements in PostgreSQL, again and again
 *
 *	pg_turns CLIENTS STATEMENT...
 *
 * See turns.h.  Where the server is says the environment, as for psql.  In each
 * turn a client executes the statements one after the other, each prepared once
 * and sent by itself.  In them $1 is the client's number, $2 the first column of
 * the last row that came, and $3 a new token of 32 hexadecimal digits.
 *
 * The first statement that returns a row with something in it, or changes one, has
 * been granted.  What begins with a question mark is left out in a turn in which
 * nothing was.
 */
#include "turns.h"

#include <libpq-fe.h>

#define MAX_STATEMENTS 10
#define TEXT 25				/* the type, in PostgreSQL */

static char **statements;
static int	n_statements;

typedef struct Client
{
	PGconn	   *postgres;
	int			n_values[MAX_STATEMENTS];
	char		number[16];
	char		result[256];
	char		token[TOKEN_LENGTH + 1];
} Client;

/* The server finds out the types of the values that the statement has. */
static void
prepare(Client *client, int i)
{
	char		name[2] = {'a' + i, '\0'};
	const char *statement = statements[i] + (statements[i][0] == '?');
	Oid			types[3];
	PGresult   *result;

	for (int n = 0; n < 3; n++)
	{
		char		value[3] = {'$', '1' + n, '\0'};

		types[n] = (strstr(statement, value) != NULL) ? 0 : TEXT;
		if (types[n] == 0)
			client->n_values[i] = n + 1;
	}
	result = PQprepare(client->postgres, name, statement, client->n_values[i], types);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		die("%s: %s", statement, PQerrorMessage(client->postgres));
	PQclear(result);
}

static void *
connect_client(int number)
{
	Client	   *client = calloc(1, sizeof(Client));

	client->postgres = PQconnectdb("");
	if (PQstatus(client->postgres) != CONNECTION_OK)
		die("%s", PQerrorMessage(client->postgres));
	snprintf(client->number, sizeof(client->number), "%d", number);
	for (int i = 0; i < n_statements; i++)
		prepare(client, i);
	return client;
}

static int
take_turn(void *connection)
{
	Client	   *client = connection;
	const char *values[3] = {client->number, client->result, client->token};
	int			granted = 0;

	make_token(client->token);
	for (int i = 0; i < n_statements; i++)
	{
		char		name[2] = {'a' + i, '\0'};
		PGresult   *result;

		if (statements[i][0] == '?' && !granted)
			continue;
		result = PQexecPrepared(client->postgres, name, client->n_values[i], values,
								NULL, NULL, 0);
		if (PQresultStatus(result) == PGRES_TUPLES_OK)
		{
			if (PQntuples(result) == 1 && !PQgetisnull(result, 0, 0))
			{
				granted = 1;
				snprintf(client->result, sizeof(client->result), "%s",
						 PQgetvalue(result, 0, 0));
			}
		}
		else if (PQresultStatus(result) != PGRES_COMMAND_OK)
			die("%s: %s", statements[i], PQerrorMessage(client->postgres));
		else if (atoi(PQcmdTuples(result)) > 0)
			granted = 1;
		PQclear(result);
	}
	return granted;
}

static pid_t
served_by(void *connection)
{
	return PQbackendPID(((Client *) connection)->postgres);
}

int
main(int argc, char **argv)
{
	if (argc < 3 || argc - 2 > MAX_STATEMENTS)
		die("usage: pg_turns CLIENTS STATEMENT...");
	statements = argv + 2;
	n_statements = argc - 2;
	serve_turns(atoi(argv[1]));
	return 0;
}
