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
#include "catalog/objectaccess.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/resowner.h"

#include "changes.h"
#include "compat.h"
#include "events.h"
#include "fail_point.h"
#include "hold.h"
#include "key_lock.h"
#include "launcher.h"
#include "lease_row.h"
#include "lock_table.h"
#include "mirror_marks.h"
#include "purge.h"
#include "quick_commit.h"
#include "relations.h"
#include "session_lock.h"
#include "settings.h"
#include "shared.h"
#include "wake.h"
#include "worker.h"

DISTLOCK_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

static object_access_hook_type previous_object_access_hook = NULL;

static void at_object_access(ObjectAccessType access, Oid class, Oid object,
							 int sub_id, void *arg);
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
	previous_object_access_hook = object_access_hook;
	object_access_hook = at_object_access;
	RegisterXactCallback(at_xact_event, NULL);
	RegisterSubXactCallback(at_subxact_event, NULL);
	RegisterResourceReleaseCallback(at_resource_release, NULL);

	/* While the server starts, and not for pg_upgrade. */
	if (process_shared_preload_libraries_in_progress && !IsBinaryUpgrade)
	{
		shared_request();
		launcher_register();
	}
}

/*
 * Sees extensions go, and databases come, by whatever command; what is done about
 * it waits for the commit.
 */
static void
at_object_access(ObjectAccessType access, Oid class, Oid object, int sub_id,
				 void *arg)
{
	if (previous_object_access_hook)
		previous_object_access_hook(access, class, object, sub_id, arg);
	if (class == ExtensionRelationId && access == OAT_DROP)
		worker_extension_dropped();
	else if (class == DatabaseRelationId && access == OAT_DROP)
		worker_send_away(object);
	else if (class == DatabaseRelationId &&
			 (access == OAT_POST_CREATE || access == OAT_POST_ALTER))
		worker_database_changed();
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
			FAIL_POINT("prepare_begin");
			break;
		case XACT_EVENT_PRE_COMMIT:
			FAIL_POINT("precommit_begin");
			hold_at_pre_commit();
			purge_at_pre_commit();
			changes_at_pre_commit();
			FAIL_POINT("precommit_announced");
			quick_commit_at_pre_commit();
			break;
		case XACT_EVENT_COMMIT:
			FAIL_POINT("commit_begin");
			mirror_marks_at_commit();
			FAIL_POINT("commit_marked");
			wake_at_xact_commit();
			quick_commit_at_commit();
			key_lock_at_xact_end();
			changes_at_xact_end(true, true);
			hold_at_xact_end(true);
			lease_row_at_xact_end();
			purge_at_xact_end();
			event_at_xact_end();
			FAIL_POINT("commit_end");
			break;
		case XACT_EVENT_PREPARE:
			mirror_marks_at_commit();
			worker_at_prepare();
			changes_at_xact_end(true, false);
			hold_at_xact_end(true);
			FAIL_POINT("prepare_end");
			/* FALLTHROUGH */
		case XACT_EVENT_ABORT:
			FAIL_POINT("abort_begin");
			mirror_marks_at_abort();
			session_lock_at_xact_abort();
			wake_at_xact_end();
			quick_commit_at_xact_end();
			key_lock_at_xact_end();
			changes_at_xact_end(false, false);
			hold_at_xact_end(false);
			lease_row_at_xact_end();
			purge_at_xact_end();
			event_at_xact_end();
			worker_at_abort();
			FAIL_POINT("abort_end");
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
			changes_at_subxact_end(true);
			hold_at_subxact_end(true);
			session_lock_at_subxact_end(true);
			FAIL_POINT("subcommit");
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			wake_at_subxact_end(false);
			key_lock_at_subxact_end(false);
			changes_at_subxact_end(false);
			hold_at_subxact_end(false);
			session_lock_at_subxact_end(false);
			FAIL_POINT("subabort");
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
		worker_at_locks_released();
	}
}
