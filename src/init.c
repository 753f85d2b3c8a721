/*-------------------------------------------------------------------------
 *
 * init.c
 *	  Loading the library, and the events of transactions.
 *
 * The library is loaded by the first call of one of its functions in a
 * session; it need not be preloaded.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "utils/resowner.h"

#include "compat.h"
#include "hold.h"
#include "key_lock.h"
#include "lease_row.h"
#include "lock_table.h"
#include "purge.h"
#include "quick_commit.h"
#include "relations.h"
#include "session_lock.h"
#include "settings.h"
#include "wake.h"

DISTLOCK_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

static void at_xact_event(XactEvent event, void *arg);
static void at_subxact_event(SubXactEvent event, SubTransactionId id,
							 SubTransactionId parent, void *arg);
static void at_resource_release(ResourceReleasePhase phase, bool committed,
								bool top_level, void *arg);

void
_PG_init(void)
{
	settings_define();
	relations_init();
	lock_table_init();
	RegisterXactCallback(at_xact_event, NULL);
	RegisterSubXactCallback(at_subxact_event, NULL);
	RegisterResourceReleaseCallback(at_resource_release, NULL);
}

/*
 * Nothing may fail here after PRE_COMMIT: the transaction has committed then,
 * and an error would be a PANIC.
 */
static void
at_xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			session_lock_at_pre_prepare();
			hold_at_pre_commit();
			break;
		case XACT_EVENT_PRE_COMMIT:
			hold_at_pre_commit();
			purge_at_pre_commit();
			quick_commit_at_pre_commit();
			break;
		case XACT_EVENT_COMMIT:
			wake_at_xact_commit();
			quick_commit_at_commit();
			key_lock_at_xact_end();
			hold_at_xact_end();
			lease_row_at_xact_end();
			purge_at_xact_end();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			session_lock_at_xact_abort();
			wake_at_xact_end();
			quick_commit_at_xact_end();
			key_lock_at_xact_end();
			hold_at_xact_end();
			lease_row_at_xact_end();
			purge_at_xact_end();
			break;
		default:
			break;
	}
}

static void
at_subxact_event(SubXactEvent event, SubTransactionId id,
				 SubTransactionId parent, void *arg)
{
	switch (event)
	{
		case SUBXACT_EVENT_COMMIT_SUB:
			wake_at_subxact_end(true);
			key_lock_at_subxact_end(true);
			hold_at_subxact_end(true);
			session_lock_at_subxact_end(true);
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			wake_at_subxact_end(false);
			key_lock_at_subxact_end(false);
			hold_at_subxact_end(false);
			session_lock_at_subxact_end(false);
			break;
		default:
			break;
	}
}

static void
at_resource_release(ResourceReleasePhase phase, bool committed, bool top_level,
					void *arg)
{
	if (phase == RESOURCE_RELEASE_AFTER_LOCKS && committed && top_level)
	{
		session_lock_at_locks_released();
		wake_at_locks_released();
	}
}
