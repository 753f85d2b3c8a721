/*-------------------------------------------------------------------------
 *
 * admin_sql.c
 *	  SQL functions for administrators and for the views.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/parsenodes.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "arguments.h"
#include "compat.h"
#include "errors.h"
#include "fence.h"
#include "holder.h"
#include "lock_table.h"
#include "purge.h"
#include "queue.h"
#include "worker.h"

DISTLOCK_FUNCTION(distlock_advance_fence);
DISTLOCK_FUNCTION(distlock_record_incarnation);
DISTLOCK_FUNCTION(distlock_purge);
DISTLOCK_FUNCTION(distlock_queue);
DISTLOCK_FUNCTION(distlock_session_end);
DISTLOCK_FUNCTION(distlock_transaction_holders);

Datum
distlock_advance_fence(PG_FUNCTION_ARGS)
{
	LockTable	table;
	int64		fence;

	error_unless_writable("advance_fence()");
	/* As long as the table is open, nobody can drop the sequences. */
	lock_table_open(&table, RowExclusiveLock);
	fence = fence_advance();
	lock_table_close(&table, true);
	PG_RETURN_INT64(fence);
}

Datum
distlock_record_incarnation(PG_FUNCTION_ARGS)
{
	fence_record_incarnation();
	worker_extension_created();
	PG_RETURN_VOID();
}

Datum
distlock_purge(PG_FUNCTION_ARGS)
{
	BlockNumber page = 0;

	error_unless_writable("purge()");
	argument_check_may_commit(fcinfo, "purge()");

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	do
	{
		CHECK_FOR_INTERRUPTS();
		page = purge_step(page);
		SPI_commit();
	} while (page != InvalidBlockNumber);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
distlock_transaction_holders(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, queue_read_holders())
	{
		QueuedWaiter *holder = lfirst(cell);
		Datum		values[2];
		bool		isnull[2];

		values[0] = PointerGetDatum(holder->key);
		isnull[0] = (holder->key == NULL);
		values[1] = Int32GetDatum(holder->pid);
		isnull[1] = (holder->pid == 0);
		tuplestore_putvalues(result->setResult, result->setDesc, values,
							 isnull);
	}
	return (Datum) 0;
}

Datum
distlock_session_end(PG_FUNCTION_ARGS)
{
	LockRow		row = {0};

	argument_check_not_null(fcinfo, 0, "fence");
	argument_check_not_null(fcinfo, 1, "ttl");
	argument_check_not_null(fcinfo, 2, "incarnation");
	row.scope = SCOPE_SESSION;
	row.fence = PG_GETARG_INT64(0);
	row.ttl = PG_GETARG_INT64(1);
	row.incarnation = PG_GETARG_TIMESTAMPTZ(2);
	PG_RETURN_TIMESTAMPTZ(holder_end(&row));
}

Datum
distlock_queue(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, queue_read())
	{
		QueuedWaiter *waiter = lfirst(cell);
		Datum		values[5];
		bool		isnull[5] = {false};

		values[0] = PointerGetDatum(waiter->key);
		isnull[0] = (waiter->key == NULL);
		values[1] = Int32GetDatum(waiter->position);
		values[2] = Int32GetDatum(waiter->pid);
		values[3] = TimestampTzGetDatum(waiter->waiting_since);
		isnull[3] = (waiter->waiting_since == 0);
		values[4] = TimestampTzGetDatum(waiter->wait_until);
		isnull[4] = (waiter->wait_until == 0);
		tuplestore_putvalues(result->setResult, result->setDesc, values,
							 isnull);
	}
	return (Datum) 0;
}
