/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  Who waits for which key, read from the lock manager.
 *
 * The queue of a key is the queue of its queue lock: the head holds it in
 * Exclusive mode, the others wait for it.  Since when and until when each
 * waits is in the tags of two more locks that it holds (key_lock.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/timestamp.h"

#include "key.h"
#include "lock_table.h"
#include "queue.h"

static uint64 tag_number(const LOCKTAG *tag);
static bool tag_is_ours(const LOCKTAG *tag, KeyLockClass class);
static void fill_in_notes(List *waiters, const LockData *locks);
static List *drop_granted(List *waiters, const LockData *locks);
static void fill_in_keys(List *waiters);
static int	compare_waiters(const ListCell *a, const ListCell *b);

List *
queue_read(void)
{
	LockData   *locks = GetLockStatusData();
	List	   *waiters = NIL;
	ListCell   *cell;
	uint64		previous_hash = 0;
	int			position = 0;

	for (int i = 0; i < locks->nelements; i++)
	{
		LockInstanceData *lock = &locks->locks[i];
		QueuedWaiter *waiter;

		if (!tag_is_ours(&lock->locktag, CLASS_QUEUE) ||
			((lock->holdMask & LOCKBIT_ON(ExclusiveLock)) == 0 &&
			 lock->waitLockMode != ExclusiveLock))
			continue;
		waiter = palloc0(sizeof(QueuedWaiter));
		waiter->key_hash = tag_number(&lock->locktag);
		waiter->pid = lock->pid;
		/* For the moment: the head before all others. */
		waiter->position = lock->waitLockMode == ExclusiveLock ? 1 : 0;
		waiter->waiting_since = lock->waitStart;
		waiters = lappend(waiters, waiter);
	}
	if (waiters == NIL)
		return NIL;

	list_sort(waiters, compare_waiters);
	fill_in_notes(waiters, locks);
	waiters = drop_granted(waiters, locks);
	if (waiters == NIL)
		return NIL;
	fill_in_keys(waiters);
	foreach(cell, waiters)
	{
		QueuedWaiter *waiter = lfirst(cell);

		if (position > 0 && waiter->key_hash == previous_hash)
			position++;
		else
			position = 1;
		previous_hash = waiter->key_hash;
		waiter->position = position;
	}
	return waiters;
}

List *
queue_read_holders(void)
{
	LockData   *locks = GetLockStatusData();
	List	   *holders = NIL;

	for (int i = 0; i < locks->nelements; i++)
	{
		LockInstanceData *lock = &locks->locks[i];
		QueuedWaiter *holder;

		if (!tag_is_ours(&lock->locktag, CLASS_KEY) ||
			(lock->holdMask & LOCKBIT_ON(AccessExclusiveLock)) == 0)
			continue;
		holder = palloc0(sizeof(QueuedWaiter));
		holder->key_hash = tag_number(&lock->locktag);
		holder->pid = lock->pid;
		holders = lappend(holders, holder);
	}
	if (holders != NIL)
	{
		list_sort(holders, compare_waiters);
		fill_in_keys(holders);
	}
	return holders;
}

static uint64
tag_number(const LOCKTAG *tag)
{
	return ((uint64) tag->locktag_field2 << 32) | tag->locktag_field3;
}

static bool
tag_is_ours(const LOCKTAG *tag, KeyLockClass class)
{
	return tag->locktag_type == LOCKTAG_ADVISORY &&
		tag->locktag_field1 == MyDatabaseId &&
		tag->locktag_field4 == class;
}

static void
fill_in_notes(List *waiters, const LockData *locks)
{
	for (int i = 0; i < locks->nelements; i++)
	{
		LockInstanceData *lock = &locks->locks[i];
		bool		since = tag_is_ours(&lock->locktag, CLASS_WAIT_SINCE);
		bool		until = tag_is_ours(&lock->locktag, CLASS_WAIT_UNTIL);
		ListCell   *cell;

		if (!since && !until)
			continue;
		foreach(cell, waiters)
		{
			QueuedWaiter *waiter = lfirst(cell);

			if (waiter->pid != lock->pid)
				continue;
			if (since)
				waiter->waiting_since = (TimestampTz) tag_number(&lock->locktag);
			else
				waiter->wait_until = (TimestampTz) tag_number(&lock->locktag);
		}
	}
}

/*
 * Who has the key locked has been granted it, and keeps the queue until its commit.
 */
static List *
drop_granted(List *waiters, const LockData *locks)
{
	for (int i = 0; i < locks->nelements; i++)
	{
		LockInstanceData *lock = &locks->locks[i];
		ListCell   *cell;

		if (!tag_is_ours(&lock->locktag, CLASS_KEY) || lock->holdMask == 0)
			continue;
		foreach(cell, waiters)
		{
			QueuedWaiter *waiter = lfirst(cell);

			if (waiter->pid == lock->pid &&
				waiter->key_hash == tag_number(&lock->locktag))
				waiters = foreach_delete_current(waiters, cell);
		}
	}
	return waiters;
}

/*
 * The lock manager knows hashes; the keys are in the table.
 */
static void
fill_in_keys(List *waiters)
{
	uint64	   *hashes = palloc(list_length(waiters) * sizeof(uint64));
	int			nhashes = 0;
	LockTable	table;
	List	   *keys;
	ListCell   *cell;

	foreach(cell, waiters)
	{
		uint64		hash = ((QueuedWaiter *) lfirst(cell))->key_hash;

		/* They are sorted by hash. */
		if (nhashes == 0 || hashes[nhashes - 1] != hash)
			hashes[nhashes++] = hash;
	}

	lock_table_open(&table, AccessShareLock);
	keys = lock_table_keys_with_hash(&table, hashes, nhashes);
	lock_table_close(&table, false);

	foreach(cell, keys)
	{
		LockKey		key;
		ListCell   *other;

		key_from_stored(&key, lfirst(cell));
		foreach(other, waiters)
		{
			QueuedWaiter *waiter = lfirst(other);

			if (waiter->key_hash == key.hash)
				waiter->key = key.value;
		}
	}
}

/*
 * By key; then the head, then the others in the order of their arrival.
 */
static int
compare_waiters(const ListCell *a, const ListCell *b)
{
	const QueuedWaiter *x = lfirst(a);
	const QueuedWaiter *y = lfirst(b);

	if (x->key_hash != y->key_hash)
		return x->key_hash < y->key_hash ? -1 : 1;
	if (x->position != y->position)
		return x->position - y->position;
	if (x->waiting_since != y->waiting_since)
		return x->waiting_since < y->waiting_since ? -1 : 1;
	return x->pid - y->pid;
}
