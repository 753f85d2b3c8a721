/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The settings of distlock.
 *
 * All of them but distlock.max_databases, which is the size of shared memory,
 * can be changed while the server runs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/twophase.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "distlock.h"
#include "fail_point.h"
#include "mirror_settings.h"
#include "settings.h"

#define DEFAULT_MAX_DATABASES 8

bool		setting_durable = true;
bool		setting_session_scope = true;
int			setting_events = 0;
int			setting_expiry_warning = 0;
int			setting_max_databases = DEFAULT_MAX_DATABASES;
int			setting_naptime = 60;
int			setting_purge_after = 10000;
bool		setting_track = true;
bool		setting_worker = true;

static int	unused_max_databases = DEFAULT_MAX_DATABASES;
static int	max_keys = -1;
static char *events;

/* By EventKind. */
static const char *const event_names[] = {
	[EVENT_GRANTED] = "granted",
	[EVENT_EXTENDED] = "extended",
	[EVENT_RELEASED] = "released",
	[EVENT_EXPIRED] = "expired",
	[EVENT_FORCED] = "forced",
};

static bool check_events(char **new_value, void **extra, GucSource source);
static void assign_events(const char *new_value, void *extra);

/*
 * Define the settings; called once when the library is loaded.
 */
void
settings_define(void)
{
	DefineCustomBoolVariable("distlock.durable",
							 "Makes sure that a granted or extended lock survives a crash, whatever synchronous_commit says.",
							 "Without it a crash can lose a lock that its holder was told it has.",
							 &setting_durable,
							 true,
							 PGC_USERSET,
							 0,
							 NULL, NULL, NULL);

	DefineCustomIntVariable("distlock.max_keys_per_transaction",
							"Sets how many keys a transaction may have locked at a time.",
							"-1 means a quarter of the shared lock table.",
							&max_keys,
							-1, -1, INT_MAX,
							PGC_SUSET,
							0,
							NULL, NULL, NULL);

	DefineCustomStringVariable("distlock.events",
							   "Sets which events are announced by NOTIFY.",
							   "A list of expired, forced, granted, released, extended; empty for none.",
							   &events,
							   "expired, forced",
							   PGC_SUSET,
							   GUC_LIST_INPUT,
							   check_events, assign_events, NULL);

	DefineCustomIntVariable("distlock.expiry_warning",
							"Sets how long before the end of a lease its expiry is announced as \"expiring\".",
							"0 means not at all.  It needs the worker.",
							&setting_expiry_warning,
							0, 0, INT_MAX,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("distlock.naptime",
							"Sets how often the launcher looks for databases that have the extension.",
							"Most are found at once; this is for those nobody has used yet.",
							&setting_naptime,
							60, 1, INT_MAX / 1000,
							PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);

	DefineCustomIntVariable("distlock.purge_after",
							"Sets how long the row of a free lock is kept for its key to come again.",
							NULL,
							&setting_purge_after,
							10000, 0, INT_MAX,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomBoolVariable("distlock.session_scope",
							 "Allows locks of scope \"session\".",
							 "Switch it off for connections that a pooler hands out by the transaction.",
							 &setting_session_scope,
							 true,
							 PGC_USERSET,
							 0,
							 NULL, NULL, NULL);

	DefineCustomBoolVariable("distlock.track",
							 "Counts what happens to locks, for the statistics.",
							 NULL,
							 &setting_track,
							 true,
							 PGC_SUSET,
							 0,
							 NULL, NULL, NULL);

	DefineCustomBoolVariable("distlock.worker",
							 "Keeps a worker in each database that has the extension.",
							 "It needs distlock in shared_preload_libraries.",
							 &setting_worker,
							 true,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);

	mirror_settings_define();
	fail_points_define();

	/* Loaded later, it has no say, but is not to be complained of either. */
	DefineCustomIntVariable("distlock.max_databases",
							"Sets how many databases can have statistics and a worker.",
							"Each takes about 7 kB of shared memory.  It needs distlock in shared_preload_libraries.",
							process_shared_preload_libraries_in_progress ?
							&setting_max_databases : &unused_max_databases,
							DEFAULT_MAX_DATABASES, 1, 1024,
							process_shared_preload_libraries_in_progress ?
							PGC_POSTMASTER : PGC_SIGHUP,
							0,
							NULL, NULL, NULL);

	MarkGUCPrefixReserved("distlock");
}

/*
 * How many keys one transaction may have locked at a time.  Each takes an
 * entry of the shared lock table, which has room for max_locks_per_transaction
 * entries for each backend and prepared transaction there may be; when it is
 * full, every transaction of the server that needs a lock fails.
 */
int
settings_max_keys(void)
{
	int64		entries;

	if (max_keys >= 0)
		return max_keys;

	entries = (int64) max_locks_per_xact * (MaxBackends + max_prepared_xacts);
	return (int) Min(entries / 4, INT_MAX);
}

static bool
check_events(char **new_value, void **extra, GucSource source)
{
	char	   *list = pstrdup(*new_value);
	List	   *names;
	ListCell   *cell;
	int		   *wanted;
	int			bits = 0;

	if (!SplitIdentifierString(list, ',', &names))
	{
		GUC_check_errdetail("List syntax is invalid.");
		return false;
	}
	foreach(cell, names)
	{
		int			i = 0;

		while (i < lengthof(event_names) &&
			   pg_strcasecmp(event_names[i], lfirst(cell)) != 0)
			i++;
		if (i == lengthof(event_names))
		{
			GUC_check_errdetail("There is no event \"%s\".",
								(char *) lfirst(cell));
			GUC_check_errhint("Events are expired, forced, granted, released and extended.");
			return false;
		}
		bits |= 1 << i;
	}
	list_free(names);
	pfree(list);

	wanted = compat_guc_alloc(sizeof(int));
	if (wanted == NULL)
		return false;
	*wanted = bits;
	*extra = wanted;
	return true;
}

static void
assign_events(const char *new_value, void *extra)
{
	setting_events = *(int *) extra;
}
