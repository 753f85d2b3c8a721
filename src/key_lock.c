/*-------------------------------------------------------------------------
 *
 * key_lock.c
 *	  Heavyweight locks on keys, and on their queues.
 *
 * PostgreSQL's lock manager does the work: it finds deadlocks, obeys cancel
 * and lock_timeout, keeps locks over PREPARE TRANSACTION, serves waiters in
 * the order in which they came and shows everything in pg_locks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "compat.h"
#include "key_lock.h"
#include "settings.h"

static bool lock_try(const LOCKTAG *tag, LOCKMODE mode);
static bool lock_try_quietly(const LOCKTAG *tag, LOCKMODE mode);
static void lock_wait(const LOCKTAG *tag, LOCKMODE mode);
static void lock_let_go(const LOCKTAG *tag, LOCKMODE mode);
static bool may_be_locked(const LockKey *key);
static bool count_key(const LockKey *key, bool raise);
static void uncount_key(void);

/*
 * How many keys this transaction has locked, in all and by the nesting level
 * of the subtransaction that did it, for the limit.  Indexed by level, from 1.
 */
static int	keys_locked = 0;
static int *keys_at_level = NULL;
static int	levels_allocated = 0;

/*
 * A bit for each key that this transaction has locked, by its hash: to find out
 * that a key is not locked, as most are not, the lock manager has to be asked
 * once for each mode.
 */
#define FILTER_BITS 8192
static uint64 locked_filter[FILTER_BITS / 64];
static bool filter_is_used = false;

int
key_lock_count(void)
{
	return keys_locked;
}

bool
key_lock_held(const LockKey *key)
{
	LOCKTAG		tag;

	if (keys_locked == 0 || !may_be_locked(key))
		return false;
	key_lock_tag(&tag, key->hash, CLASS_KEY);
	return compat_lock_held(&tag, ExclusiveLock) ||
		compat_lock_held(&tag, ShareUpdateExclusiveLock) ||
		compat_lock_held(&tag, RowShareLock) ||
		compat_lock_held(&tag, AccessExclusiveLock);
}

bool
key_lock_try(const LockKey *key, LOCKMODE mode)
{
	LOCKTAG		tag;
	bool		counted = count_key(key, true);

	key_lock_tag(&tag, key->hash, CLASS_KEY);
	if (lock_try(&tag, mode))
		return true;
	if (counted)
		uncount_key();
	return false;
}

void
key_lock_wait(const LockKey *key, LOCKMODE mode)
{
	LOCKTAG		tag;

	/* An error ends the (sub)transaction, and with it the count. */
	count_key(key, true);
	key_lock_tag(&tag, key->hash, CLASS_KEY);
	lock_wait(&tag, mode);
}

bool
key_lock_try_quietly(const LockKey *key, LOCKMODE mode)
{
	LOCKTAG		tag;

	if (key_lock_held(key) || !count_key(key, false))
		return false;
	key_lock_tag(&tag, key->hash, CLASS_KEY);
	if (lock_try_quietly(&tag, mode))
		return true;
	uncount_key();
	return false;
}

void
key_lock_let_go(const LockKey *key, LOCKMODE mode)
{
	LOCKTAG		tag;

	key_lock_tag(&tag, key->hash, CLASS_KEY);
	lock_let_go(&tag, mode);
	if (!key_lock_held(key))
		uncount_key();
}

/*
 * AccessShare conflicts with AccessExclusive only.
 */
bool
key_lock_is_hold(const LockKey *key)
{
	return key_lock_blocker(key, AccessShareLock) != 0;
}

/*
 * RowShare conflicts with Exclusive, but not with Share.
 */
bool
key_lock_is_guarded_only(const LockKey *key)
{
	return key_lock_blocker(key, ExclusiveLock) != 0 &&
		key_lock_blocker(key, ShareLock) == 0;
}

int
key_lock_blocker(const LockKey *key, LOCKMODE mode)
{
	LOCKTAG		tag;
	VirtualTransactionId *holders;
	PGPROC	   *proc;
	int			count;
	int			pid;

	key_lock_tag(&tag, key->hash, CLASS_KEY);
	holders = GetLockConflicts(&tag, mode, &count);
	if (count == 0)
		return 0;
	proc = compat_vxid_proc(&holders[0]);
	pid = proc ? proc->pid : 0;
	return pid != 0 ? pid : -1;
}

bool
queue_lock_pass(const LockKey *key)
{
	LOCKTAG		tag;

	key_lock_tag(&tag, key->hash, CLASS_QUEUE);
	return lock_try(&tag, ShareLock);
}

bool
queue_lock_pass_quietly(const LockKey *key)
{
	LOCKTAG		tag;

	key_lock_tag(&tag, key->hash, CLASS_QUEUE);
	return lock_try_quietly(&tag, ShareLock);
}

void
queue_lock_passed(const LockKey *key)
{
	LOCKTAG		tag;

	key_lock_tag(&tag, key->hash, CLASS_QUEUE);
	lock_let_go(&tag, ShareLock);
}

bool
queue_lock_try(const LockKey *key)
{
	LOCKTAG		tag;

	key_lock_tag(&tag, key->hash, CLASS_QUEUE);
	return lock_try(&tag, ExclusiveLock);
}

void
queue_lock_wait(const LockKey *key)
{
	LOCKTAG		tag;

	key_lock_tag(&tag, key->hash, CLASS_QUEUE);
	lock_wait(&tag, ExclusiveLock);
}

void
queue_lock_let_go(const LockKey *key)
{
	LOCKTAG		tag;

	key_lock_tag(&tag, key->hash, CLASS_QUEUE);
	lock_let_go(&tag, ExclusiveLock);
}

/*
 * The lock manager knows who stands at the head: no memory of our own, and
 * nothing to clean up after a crash.  A process that has left meanwhile, or
 * another in its place, is woken for nothing, which does no harm.
 */
void
queue_lock_wake_head(uint64 key_hash)
{
	LOCKTAG		tag;
	VirtualTransactionId *holders;
	int			count;

	key_lock_tag(&tag, key_hash, CLASS_QUEUE);
	holders = GetLockConflicts(&tag, ShareLock, &count);
	for (int i = 0; i < count; i++)
	{
		PGPROC	   *proc = compat_vxid_proc(&holders[i]);

		if (proc != NULL)
			SetLatch(&proc->procLatch);
	}
	pfree(holders);
}

/*
 * A note is a lock that conflicts with nothing and whose tag holds a time.
 * The lock manager drops it when the process ends, however it ends.
 */
void
queue_note_put(TimestampTz since, TimestampTz until)
{
	LOCKTAG		tag;

	key_lock_tag(&tag, (uint64) since, CLASS_WAIT_SINCE);
	lock_wait(&tag, AccessShareLock);
	key_lock_tag(&tag, (uint64) until, CLASS_WAIT_UNTIL);
	lock_wait(&tag, AccessShareLock);
}

void
queue_note_remove(TimestampTz since, TimestampTz until)
{
	LOCKTAG		tag;

	key_lock_tag(&tag, (uint64) since, CLASS_WAIT_SINCE);
	lock_let_go(&tag, AccessShareLock);
	key_lock_tag(&tag, (uint64) until, CLASS_WAIT_UNTIL);
	lock_let_go(&tag, AccessShareLock);
}

void
epoch_lock_take(void)
{
	LOCKTAG		tag;

	key_lock_tag(&tag, 0, CLASS_EPOCH);
	lock_wait(&tag, ExclusiveLock);
}

void
epoch_lock_let_go(void)
{
	LOCKTAG		tag;

	key_lock_tag(&tag, 0, CLASS_EPOCH);
	lock_let_go(&tag, ExclusiveLock);
}

/*
 * Hand the keys locked in a subtransaction to its parent, or forget them.
 */
void
key_lock_at_subxact_end(bool committed)
{
	int			level = GetCurrentTransactionNestLevel();

	if (level >= levels_allocated)
		return;
	if (committed)
		keys_at_level[level - 1] += keys_at_level[level];
	else
		keys_locked -= keys_at_level[level];
	keys_at_level[level] = 0;
}

void
key_lock_at_xact_end(void)
{
	keys_locked = 0;
	if (levels_allocated > 0)
		memset(keys_at_level, 0, levels_allocated * sizeof(int));
	if (filter_is_used)
		memset(locked_filter, 0, sizeof(locked_filter));
	filter_is_used = false;
}

static bool
lock_try(const LOCKTAG *tag, LOCKMODE mode)
{
	ResourceOwner saved = CurrentResourceOwner;
	LockAcquireResult result;

	CurrentResourceOwner = CurTransactionResourceOwner;
	result = LockAcquire(tag, mode, false, true);
	CurrentResourceOwner = saved;
	return result != LOCKACQUIRE_NOT_AVAIL;
}

static bool
lock_try_quietly(const LOCKTAG *tag, LOCKMODE mode)
{
	ResourceOwner saved = CurrentResourceOwner;
	LockAcquireResult result;

	CurrentResourceOwner = CurTransactionResourceOwner;
	result = compat_lock_try_quietly(tag, mode);
	CurrentResourceOwner = saved;
	return result != LOCKACQUIRE_NOT_AVAIL;
}

static void
lock_wait(const LOCKTAG *tag, LOCKMODE mode)
{
	ResourceOwner saved = CurrentResourceOwner;

	CurrentResourceOwner = CurTransactionResourceOwner;
	(void) LockAcquire(tag, mode, false, false);
	CurrentResourceOwner = saved;
}

static void
lock_let_go(const LOCKTAG *tag, LOCKMODE mode)
{
	ResourceOwner saved = CurrentResourceOwner;

	CurrentResourceOwner = CurTransactionResourceOwner;
	LockRelease(tag, mode, false);
	CurrentResourceOwner = saved;
}

static bool
may_be_locked(const LockKey *key)
{
	return (locked_filter[key->hash % FILTER_BITS / 64] &
			UINT64CONST(1) << key->hash % 64) != 0;
}

/*
 * Count a key that is about to be locked; false when that was not needed
 * because the transaction has it locked already (or, when raise is false,
 * because it may not lock any more).
 */
static bool
count_key(const LockKey *key, bool raise)
{
	int			level = GetCurrentTransactionNestLevel();

	if (key_lock_held(key))
		return false;

	if (keys_locked >= settings_max_keys())
	{
		if (!raise)
			return false;
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many keys locked in one transaction"),
				 errdetail("A transaction can have %d keys locked, because each takes a place in the shared lock table.",
						   settings_max_keys()),
				 errhint("Use fewer keys in a transaction, or have distlock.max_keys_per_transaction or max_locks_per_transaction raised.")));
	}

	if (level >= levels_allocated)
	{
		int			new_size = Max(16, 2 * level);

		if (keys_at_level == NULL)
			keys_at_level = MemoryContextAllocZero(TopMemoryContext,
												   new_size * sizeof(int));
		else
		{
			keys_at_level = repalloc(keys_at_level, new_size * sizeof(int));
			memset(keys_at_level + levels_allocated, 0,
				   (new_size - levels_allocated) * sizeof(int));
		}
		levels_allocated = new_size;
	}
	keys_at_level[level]++;
	keys_locked++;
	locked_filter[key->hash % FILTER_BITS / 64] |=
		UINT64CONST(1) << key->hash % 64;
	filter_is_used = true;
	return true;
}

static void
uncount_key(void)
{
	keys_at_level[GetCurrentTransactionNestLevel()]--;
	keys_locked--;
}
