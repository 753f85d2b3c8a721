/*-------------------------------------------------------------------------
 *
 * changes.c
 *	  What a transaction has done to locks, until it ends.
 *
 * The list is kept in the order of the changes, with the nesting level that each
 * was made in; what is rolled back is at its end (see wake.c for the same).
 *
 * Notifications are handed to PostgreSQL as late as before the commit: it
 * refuses to prepare a transaction that has any.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"

#include "changes.h"
#include "events.h"
#include "key.h"
#include "settings.h"
#include "stats.h"

typedef struct Change
{
	EventKind	kind;
	int			level;			/* nesting level of the subtransaction */
	uint64		key_hash;
	int64		held;			/* microseconds, of a lock that has ended */
	char	   *payload;		/* NULL: not announced */
	bool		lost;			/* it could not be */
} Change;

/* In TopTransactionContext. */
static Change *changes = NULL;
static int	num_changes = 0;
static int	allocated = 0;

static void count(const Change *change);

void
changes_add(EventKind kind, const LockRow *row, TimestampTz at)
{
	bool		announce = event_is_wanted(kind);
	MemoryContext saved;
	Change	   *change;
	LockKey		key;

	if (!announce && !setting_track)
		return;
	stats_begin();

	saved = MemoryContextSwitchTo(TopTransactionContext);
	if (num_changes == allocated)
	{
		int			size = Max(8, 2 * allocated);

		if (changes == NULL)
			changes = palloc(size * sizeof(Change));
		else
			changes = repalloc_huge(changes, size * sizeof(Change));
		allocated = size;
	}
	key_from_stored(&key, row->key);
	change = &changes[num_changes];
	change->kind = kind;
	change->level = GetCurrentTransactionNestLevel();
	change->key_hash = key.hash;
	change->held = at - row->acquired_at;
	change->payload = announce ? event_payload(kind, row, at) : NULL;
	change->lost = false;
	num_changes++;
	MemoryContextSwitchTo(saved);
}

void
changes_at_pre_commit(void)
{
	for (int i = 0; i < num_changes; i++)
	{
		if (changes[i].payload != NULL)
			changes[i].lost = !event_send(changes[i].payload);
	}
}

void
changes_at_subxact_end(bool committed)
{
	int			level = GetCurrentTransactionNestLevel();

	for (int i = num_changes - 1; i >= 0 && changes[i].level >= level; i--)
	{
		if (committed)
			changes[i].level = level - 1;
		else
			num_changes = i;
	}
}

/*
 * A transaction that is prepared counts as committed, as it will be as a rule.
 */
void
changes_at_xact_end(bool committed, bool announced)
{
	if (committed)
	{
		for (int i = 0; i < num_changes; i++)
		{
			count(&changes[i]);
			if (announced && changes[i].payload != NULL)
				stats_event(changes[i].lost);
		}
	}
	changes = NULL;
	num_changes = allocated = 0;
}

static void
count(const Change *change)
{
	switch (change->kind)
	{
		case EVENT_GRANTED:
			stats_granted(change->key_hash);
			break;
		case EVENT_EXTENDED:
			stats_extended();
			break;
		case EVENT_RELEASED:
			stats_ended(COUNT_RELEASES, change->held);
			break;
		case EVENT_EXPIRED:
			stats_ended(COUNT_EXPIRIES, change->held);
			break;
		case EVENT_FORCED:
			stats_ended(COUNT_TAKE_OVERS, change->held);
			break;
		case EVENT_EXPIRING:
			break;
	}
}
