/*
 * spi_lock.c
 *		The same kind of lock as distlock's, in C by way of SPI
 *
 * What an extension comes to that keeps its locks in a table and uses SQL for
 * that: a plan for each function, prepared at the first call and kept.  The
 * table is that of plpgsql.sql, and so are the statements.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(spi_acquire);
PG_FUNCTION_INFO_V1(spi_extend);
PG_FUNCTION_INFO_V1(spi_release);

typedef struct Statement
{
	const char *text;
	int			nargs;
	SPIPlanPtr	plan;
} Statement;

static Statement acquire_statement = {
	"INSERT INTO peer.lock AS l (key, token, fence, expires_at)"
	" VALUES ($1, gen_random_uuid(), nextval('peer.fence'), clock_timestamp() + $2::interval)"
	" ON CONFLICT (key) DO UPDATE SET token = excluded.token, fence = excluded.fence,"
	"  expires_at = excluded.expires_at"
	" WHERE l.token IS NULL OR l.expires_at <= clock_timestamp()"
	" RETURNING token::text",
2};

static Statement extend_statement = {
	"UPDATE peer.lock SET expires_at = clock_timestamp() + $3::interval"
	" WHERE key = $1 AND token = $2::uuid AND expires_at > clock_timestamp() RETURNING 't'",
3};

static Statement release_statement = {
	"UPDATE peer.lock SET token = NULL"
	" WHERE key = $1 AND token = $2::uuid AND expires_at > clock_timestamp() RETURNING 't'",
2};

/* Execute it with the arguments of the call, all of them text; the result of one row. */
static Datum
execute(Statement *statement, FunctionCallInfo fcinfo)
{
	static Oid	types[3] = {25, 25, 25};
	Datum		values[3];
	char	   *result = NULL;

	for (int i = 0; i < statement->nargs; i++)
		values[i] = PG_GETARG_DATUM(i);
	SPI_connect();
	if (statement->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(statement->text, statement->nargs, types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare: %s", statement->text);
		statement->plan = plan;
	}
	if (SPI_execute_plan(statement->plan, values, NULL, false, 1) < 0)
		elog(ERROR, "could not execute: %s", statement->text);
	if (SPI_processed == 1)
		result = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (result != NULL)
	{
		text	   *copy = SPI_palloc(strlen(result) + VARHDRSZ);

		SET_VARSIZE(copy, strlen(result) + VARHDRSZ);
		memcpy(VARDATA(copy), result, strlen(result));
		SPI_finish();
		PG_RETURN_TEXT_P(copy);
	}
	SPI_finish();
	PG_RETURN_NULL();
}

Datum
spi_acquire(PG_FUNCTION_ARGS)
{
	return execute(&acquire_statement, fcinfo);
}

Datum
spi_extend(PG_FUNCTION_ARGS)
{
	return execute(&extend_statement, fcinfo);
}

Datum
spi_release(PG_FUNCTION_ARGS)
{
	return execute(&release_statement, fcinfo);
}
