/*-------------------------------------------------------------------------
 *
 * exclusive.c
 *	  Work that runs under a lock.
 *
 * A command runs as the caller, with the caller's rights and settings.
 *
 * exclusive_do() runs it in the caller's transaction: the lock ends with that
 * transaction, when the work is visible to the next holder or has never been.
 *
 * exclusive_run() runs it in transactions of its own, under a lock of the
 * session.  When the session dies, so does the lock.  When the command fails,
 * the session lock is dropped, which cannot fail, and the lock is free by that:
 * what the failed transaction has written will never be seen by anybody.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/spi.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "errors.h"
#include "exclusive.h"
#include "fail_point.h"
#include "hold.h"
#include "session_lock.h"
#include "token.h"

/* The locks that commands now running are under, the innermost first. */
typedef struct Frame
{
	const LockKey *key;
	const text *token;
	int64		fence;			/* 0: of scope "transaction", to be drawn */
	struct Frame *outer;
} Frame;

static Frame *innermost = NULL;

typedef struct Statement
{
	char	   *sql;
	bool		may_commit;		/* it is one that can commit: CALL, DO */
} Statement;

/*
 * The last command that was a single statement, as most are: when it comes
 * again, it need not be parsed just to find that out.  In TopMemoryContext;
 * longer ones are not kept.
 */
#define LAST_COMMAND_MAX_BYTES 4096

static char *last_command = NULL;
static bool last_standard_strings;	/* the setting it was parsed with */
static Statement last_statement;

static List *split(const char *command);
static Statement *copy_statement(const Statement *statement);
static void remember(const char *command, const Statement *statement);
static void say_where_in_command(void *command);
static uint64 run_statements(const List *statements, bool may_commit);
static uint64 run_statement(const Statement *statement, bool may_commit);

bool
exclusive_do(const AcquireRequest *request, const char *command, uint64 *rows,
			 Refusal *refusal)
{
	List	   *volatile statements;
	Frame	   *outer = innermost;
	Frame		frame;
	Grant		grant;
	Hold	   *hold;

	/* Syntax errors are found before anything is locked. */
	statements = split(command);

	/* Another command of this transaction may have been here before. */
	hold = hold_find_lock(&request->key, NULL);
	if (hold == NULL || !hold->idle)
	{
		if (!lease_acquire(request, &grant, refusal))
			return false;
		hold = hold_find_lock(&request->key, grant.token);
	}
	hold->idle = false;

	frame.key = &request->key;
	frame.token = hold->token;
	frame.fence = 0;
	frame.outer = outer;
	PG_TRY();
	{
		innermost = &frame;
		SPI_connect();
		FAIL_POINT("do_before_command");
		*rows = run_statements(statements, false);
		SPI_finish();

		/* Others wait for the transaction's end; a next command need not. */
		hold = hold_find_lock(frame.key, frame.token);
		if (hold != NULL)
			hold->idle = true;
	}
	PG_FINALLY();
	{
		innermost = outer;
	}
	PG_END_TRY();
	return true;
}

bool
exclusive_run(AcquireRequest *request, const char *command, Refusal *refusal)
{
	List	   *volatile statements;
	Frame	   *outer = innermost;
	Frame		frame;
	Grant		grant;
	bool		released;

	statements = split(command);

	/* All that is needed after a commit is in the memory of the caller. */
	request->token = token_generate();
	request->scope = SCOPE_SESSION;
	request->commits_first = true;
	if (!lease_acquire(request, &grant, refusal))
		return false;

	frame.key = &request->key;
	frame.token = grant.token;
	frame.fence = grant.fence;
	frame.outer = outer;

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	PG_TRY();
	{
		innermost = &frame;
		FAIL_POINT("run_committed");
		(void) run_statements(statements, true);
		PushActiveSnapshot(GetTransactionSnapshot());
		FAIL_POINT("run_before_release");
		released = lease_release(frame.key, frame.token);
		PopActiveSnapshot();
		if (!released)
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_HELD),
					 errmsg("lock \"%s\" was lost while the command ran",
							error_key(frame.key)),
					 errdetail("It was released by force, or by pg_advisory_unlock_all()."),
					 errhint("What the command has committed may overlap with another holder's work.")));
		FAIL_POINT("run_before_commit");
		SPI_commit();
	}
	PG_CATCH();
	{
		innermost = outer;
		session_lock_drop(frame.fence);
		PG_RE_THROW();
	}
	PG_END_TRY();
	innermost = outer;
	SPI_finish();
	return true;
}

int64
exclusive_current_fence(void)
{
	Hold	   *hold;

	if (innermost == NULL)
		return 0;
	if (innermost->fence != 0)
		return innermost->fence;
	hold = hold_find_lock(innermost->key, innermost->token);
	return hold ? hold_fence(hold) : 0;
}

/*
 * The statements (Statement *) of a command, so that each sees what the ones
 * before it have done and the rows of each can be counted.
 */
static List *
split(const char *command)
{
	ErrorContextCallback context = {0};
	List	   *parsed;
	List	   *statements = NIL;
	ListCell   *cell;

	if (last_command != NULL && strcmp(last_command, command) == 0 &&
		last_standard_strings == standard_conforming_strings)
		return list_make1(copy_statement(&last_statement));

	context.callback = say_where_in_command;
	context.arg = unconstify(char *, command);
	context.previous = error_context_stack;
	error_context_stack = &context;
	parsed = pg_parse_query(command);
	error_context_stack = context.previous;

	foreach(cell, parsed)
	{
		RawStmt    *raw = lfirst_node(RawStmt, cell);
		const char *start = command + raw->stmt_location;
		Statement  *statement = palloc(sizeof(Statement));

		statement->sql = raw->stmt_len > 0 ?
			pnstrdup(start, raw->stmt_len) : pstrdup(start);
		statement->may_commit = IsA(raw->stmt, CallStmt) ||
			IsA(raw->stmt, DoStmt);
		statements = lappend(statements, statement);
	}
	if (statements == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("command must not be empty")));
	if (list_length(statements) == 1)
		remember(command, linitial(statements));
	return statements;
}

/*
 * A command that the statement runs may take its place as the last.
 */
static Statement *
copy_statement(const Statement *statement)
{
	Statement  *copy = palloc(sizeof(Statement));

	copy->sql = pstrdup(statement->sql);
	copy->may_commit = statement->may_commit;
	return copy;
}

static void
remember(const char *command, const Statement *statement)
{
	char	   *command_copy;

	if (strlen(command) > LAST_COMMAND_MAX_BYTES)
		return;
	command_copy = MemoryContextStrdup(TopMemoryContext, command);
	if (last_command != NULL)
	{
		pfree(last_command);
		pfree(last_statement.sql);
		last_command = NULL;
	}
	last_statement.sql = MemoryContextStrdup(TopMemoryContext, statement->sql);
	last_statement.may_commit = statement->may_commit;
	last_standard_strings = standard_conforming_strings;
	last_command = command_copy;
}

/*
 * A syntax error is in the command, not in the statement that has it as an
 * argument.
 */
static void
say_where_in_command(void *command)
{
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(command);
	}
}

static uint64
run_statements(const List *statements, bool may_commit)
{
	uint64		rows = 0;
	ListCell   *cell;

	foreach(cell, statements)
		rows += run_statement(lfirst(cell), may_commit);
	return rows;
}

/*
 * Only CALL and DO can make use of the permission to commit, and only they are
 * given it, because others need a snapshot that SPI takes for them.
 */
static uint64
run_statement(const Statement *statement, bool may_commit)
{
	SPIExecuteOptions options = {0};
	int			result;

	options.allow_nonatomic = may_commit && statement->may_commit;
	/* Rows are counted, not kept. */
	options.dest = None_Receiver;
	result = SPI_execute_extended(statement->sql, &options);

	if (result == SPI_ERROR_COPY)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot COPY from or to the client in a command that runs under a lock"),
				 errhint("Use COPY with a file or a program.")));
	if (result == SPI_ERROR_TRANSACTION)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("cannot begin or end a transaction in a command that runs under a lock"),
				 errhint("With run_exclusively, a procedure or a DO block that the command calls may commit.")));
	if (result < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("this command cannot run under a lock: %s",
						SPI_result_code_string(result))));
	return SPI_processed;
}
