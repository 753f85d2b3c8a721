/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The settings of distlock.
 *
 * All of them can be changed while the server runs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/twophase.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/guc.h"

#include "settings.h"

bool		setting_durable = true;

static int	max_keys = -1;

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
