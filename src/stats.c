/*-------------------------------------------------------------------------
 *
 * stats.c
 *	  Counting, for the views stats, stats_histograms and busiest_keys.
 *
 * Why nobody waits for anybody.  A counter, or a bucket of a histogram, is added
 * to by one atomic instruction.  The table of the busiest keys takes more than
 * that, and has a flag that says that somebody is at it; who finds it set, or
 * loses the race for it, leaves its call out of the table.  Nothing is called
 * between setting the flag and clearing it, so that it cannot stay set.  Who
 * reads the table, or empties it, waits for the flag instead: that is an
 * administrator's statement, not a lock's.
 *
 * What is counted when.  What changes a lock (grants, extensions, releases,
 * expiries, take-overs) is counted once its transaction has committed, or has
 * been prepared, and never if it is rolled back.  Refusals and waits have
 * happened whatever becomes of the transaction, and are counted at once; a wait
 * that ends in an error, such as a cancel, is not.  An expiry is counted when
 * somebody notices it and ends the lock, but the lock was held until it expired,
 * not until then.
 *
 * The busiest keys are found by the Space-Saving algorithm (Metwally, Agrawal
 * and El Abbadi, 2005): a key that is not in the table takes the place of the
 * one with fewest calls, and begins with that one's calls, which its entry
 * remembers as inherited.  The calls of the entries add up to the calls counted
 * then, N, so that the fewest are at most N / BUSIEST_KEYS, and it follows:
 *
 * - A key was called at most "calls" times, and at least "calls" - "inherited".
 * - "inherited" is at most N / BUSIEST_KEYS.
 * - A key that was called more often than that is in the table.
 *
 * A call that was left out is not among N.  The other numbers of an entry are
 * those since the key came into the table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/timestamp.h"

#include "settings.h"
#include "stats.h"

/* Between two looks at the flag, in microseconds; it is set for far less. */
#define PAUSE 100L

static DatabaseSlot *slot_to_count_in(void);
static void count(DatabaseSlot *slot, StatsCounter counter, uint64 number);
static void count_time(pg_atomic_uint64 *histogram, int64 time);
static void count_call(DatabaseSlot *slot, uint64 key_hash,
					   StatsCounter counter);
static void count_wait(DatabaseSlot *slot, uint64 key_hash, int64 waited);
static bool busiest_begin(DatabaseSlot *slot);
static KeyStats *busiest_entry(DatabaseSlot *slot, uint64 key_hash);

void
stats_begin(void)
{
	if (setting_track)
		(void) shared_slot();
}

void
stats_granted(uint64 key_hash)
{
	DatabaseSlot *slot = slot_to_count_in();

	if (slot == NULL)
		return;
	count(slot, COUNT_GRANTS, 1);
	count_call(slot, key_hash, COUNT_GRANTS);
}

void
stats_extended(void)
{
	DatabaseSlot *slot = slot_to_count_in();

	if (slot != NULL)
		count(slot, COUNT_EXTENSIONS, 1);
}

/*
 * A clock that was set back makes a lock end before it began.
 */
void
stats_ended(StatsCounter how, int64 held)
{
	DatabaseSlot *slot = slot_to_count_in();

	if (slot == NULL)
		return;
	held = Max(held, 0);
	count(slot, how, 1);
	count(slot, COUNT_HOLD_TIME, held);
	count_time(slot->hold_histogram, held);
}

void
stats_event(bool lost)
{
	DatabaseSlot *slot = slot_to_count_in();

	if (slot != NULL)
		count(slot, lost ? COUNT_EVENTS_LOST : COUNT_EVENTS, 1);
}

void
stats_refused(uint64 key_hash)
{
	DatabaseSlot *slot;

	stats_begin();
	slot = slot_to_count_in();
	if (slot == NULL)
		return;
	count(slot, COUNT_REFUSALS, 1);
	count_call(slot, key_hash, COUNT_REFUSALS);
}

void
stats_waited(uint64 key_hash, int64 waited)
{
	DatabaseSlot *slot;

	stats_begin();
	slot = slot_to_count_in();
	if (slot == NULL)
		return;
	waited = Max(waited, 0);
	count(slot, COUNT_WAITS, 1);
	count(slot, COUNT_WAIT_TIME, waited);
	count_time(slot->wait_histogram, waited);
	count_wait(slot, key_hash, waited);
}

/*
 * What others count meanwhile may be forgotten or not.  It may have to wait for
 * a moment, and be cancelled then.
 */
void
stats_reset(DatabaseSlot *slot)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < NUM_COUNTERS; i++)
		pg_atomic_write_u64(&slot->counters[i], 0);
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
	{
		pg_atomic_write_u64(&slot->wait_histogram[i], 0);
		pg_atomic_write_u64(&slot->hold_histogram[i], 0);
	}

	while (!busiest_begin(slot))
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(PAUSE);
	}
	memset(slot->busiest, 0, sizeof(slot->busiest));
	pg_atomic_clear_flag(&slot->busiest_in_use);

	shared_lock();
	slot->stats_since = now;
	shared_unlock();
}

int64
stats_bucket_bound(int bucket)
{
	return bucket < HISTOGRAM_BUCKETS - 1 ? INT64CONST(1) << bucket :
		PG_INT64_MAX;
}

static DatabaseSlot *
slot_to_count_in(void)
{
	return setting_track ? shared_slot_if_attached() : NULL;
}

static void
count(DatabaseSlot *slot, StatsCounter counter, uint64 number)
{
	pg_atomic_fetch_add_u64(&slot->counters[counter], number);
}

/*
 * The bucket of a time is the number of its binary digits.
 */
static void
count_time(pg_atomic_uint64 *histogram, int64 time)
{
	int			bucket = time == 0 ? 0 : pg_leftmost_one_pos64(time) + 1;

	pg_atomic_fetch_add_u64(&histogram[Min(bucket, HISTOGRAM_BUCKETS - 1)], 1);
}

static void
count_call(DatabaseSlot *slot, uint64 key_hash, StatsCounter counter)
{
	KeyStats   *entry;

	if (!busiest_begin(slot))
		return;
	entry = busiest_entry(slot, key_hash);
	entry->calls++;
	if (counter == COUNT_GRANTS)
		entry->grants++;
	else
		entry->refusals++;
	pg_atomic_clear_flag(&slot->busiest_in_use);
}

/*
 * A wait is no call: that is counted when it is granted or refused.  But it may
 * be what brings the key into the table, since it comes first.
 */
static void
count_wait(DatabaseSlot *slot, uint64 key_hash, int64 waited)
{
	KeyStats   *entry;

	if (!busiest_begin(slot))
		return;
	entry = busiest_entry(slot, key_hash);
	entry->waits++;
	entry->wait_time += waited;
	pg_atomic_clear_flag(&slot->busiest_in_use);
}

/*
 * Have the table of the busiest keys to oneself, until the flag is cleared.  A
 * look comes first, since the attempt takes the flag's cache line from who has
 * it set.
 */
static bool
busiest_begin(DatabaseSlot *slot)
{
	return pg_atomic_unlocked_test_flag(&slot->busiest_in_use) &&
		pg_atomic_test_set_flag(&slot->busiest_in_use);
}

/*
 * The entry of a key, made if need be.  Entries are taken into use in order.
 */
static KeyStats *
busiest_entry(DatabaseSlot *slot, uint64 key_hash)
{
	KeyStats   *least = &slot->busiest[0];
	uint64		inherited;

	for (int i = 0; i < BUSIEST_KEYS; i++)
	{
		KeyStats   *entry = &slot->busiest[i];

		if (entry->calls == 0 && entry->waits == 0)
		{
			least = entry;		/* not in use */
			break;
		}
		if (entry->key_hash == key_hash)
			return entry;
		if (entry->calls < least->calls)
			least = entry;
	}

	inherited = least->calls;
	memset(least, 0, sizeof(KeyStats));
	least->key_hash = key_hash;
	least->calls = least->inherited = inherited;
	return least;
}
