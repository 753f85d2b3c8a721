/*-------------------------------------------------------------------------
 *
 * mirror_marks.c
 *	  How the worker learns which pages of the lock table to mirror.
 *
 * What was rolled back to a savepoint stays noted: a page is read once too often
 * then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"

#include "mirror_marks.h"

/* The pages that this transaction has written, and where among the words. */
static uint32 written[DIRTY_WORDS];
static int	first_word = DIRTY_WORDS;
static int	last_word = -1;

static void set(pg_atomic_uint32 *where, uint32 value);
static DatabaseSlot *set_marks(void);
static DatabaseSlot *mirrored_slot(void);

void
mirror_marks_note(BlockNumber page)
{
	uint32		bit = page % DIRTY_BITS;
	int			word = bit / 32;

	if (first_word <= word && word <= last_word &&
		(written[word] & ((uint32) 1 << (bit % 32))) != 0)
		return;
	written[word] |= (uint32) 1 << (bit % 32);
	first_word = Min(first_word, word);
	last_word = Max(last_word, word);
	(void) set_marks();
}

/*
 * Also when the transaction is prepared: the worker sees then that there is one,
 * and looks until it has ended.
 */
void
mirror_marks_at_commit(void)
{
	DatabaseSlot *slot;

	if (last_word < 0)
		return;
	slot = set_marks();
	if (slot != NULL &&
		pg_atomic_exchange_u32(&slot->mirror_changed, 1) == 0)
		shared_wake(slot->worker_proc);
	mirror_marks_at_abort();
}

void
mirror_marks_at_abort(void)
{
	for (int i = first_word; i <= last_word; i++)
		written[i] = 0;
	first_word = DIRTY_WORDS;
	last_word = -1;
}

void
mirror_marks_want(DatabaseSlot *slot, bool wanted)
{
	(void) pg_atomic_exchange_u32(&slot->mirror_wanted, wanted);
}

void
mirror_marks_take(DatabaseSlot *slot, PageMarks *marks)
{
	page_marks_clear(marks);
	(void) pg_atomic_exchange_u32(&slot->mirror_changed, 0);
	for (int i = 0; i < DIRTY_WORDS; i++)
	{
		if (pg_atomic_read_u32(&slot->mirror_dirty[i]) == 0)
			continue;
		set(&slot->mirror_behind, true);
		marks->words[i] = pg_atomic_exchange_u32(&slot->mirror_dirty[i], 0);
	}
}

void
mirror_marks_set_behind(DatabaseSlot *slot, bool behind, TransactionId prepared)
{
	/* At no time does it seem to have seen all, and to wait for nobody. */
	if (behind)
		set(&slot->mirror_behind, true);
	set(&slot->mirror_prepared, prepared);
	if (!behind)
		set(&slot->mirror_behind, false);
}

static void
set(pg_atomic_uint32 *where, uint32 value)
{
	if (pg_atomic_read_u32(where) != value)
		(void) pg_atomic_exchange_u32(where, value);
}

bool
mirror_marks_take_gap(DatabaseSlot *slot)
{
	return pg_atomic_read_u32(&slot->mirror_gap) != 0 &&
		pg_atomic_exchange_u32(&slot->mirror_gap, 0) != 0;
}

void
mirror_marks_note_deleted(BlockNumber page, TransactionId writer)
{
	DatabaseSlot *slot;
	uint32		bit = page % DIRTY_BITS;
	bool		unseen;
	TransactionId prepared;

	pg_memory_barrier();
	slot = mirrored_slot();
	if (slot == NULL)
		return;
	unseen = (pg_atomic_read_u32(&slot->mirror_dirty[bit / 32]) &
			  ((uint32) 1 << (bit % 32))) != 0;

	/*
	 * In this order: the worker is behind before it takes the mark, and says
	 * for whom it waits before it is not behind any more.
	 */
	pg_read_barrier();
	unseen = unseen || pg_atomic_read_u32(&slot->mirror_behind) != 0;
	pg_read_barrier();
	prepared = pg_atomic_read_u32(&slot->mirror_prepared);
	if (unseen || (TransactionIdIsValid(prepared) &&
				   !TransactionIdPrecedes(writer, prepared)))
		(void) pg_atomic_exchange_u32(&slot->mirror_gap, 1);
}

TransactionId
mirror_marks_horizon(TransactionId horizon)
{
	DatabaseSlot *slot = mirrored_slot();

	if (slot == NULL)
		return horizon;
	return TransactionIdOlder(horizon,
							  pg_atomic_read_u32(&slot->mirror_prepared));
}

bool
mirror_marks_behind(void)
{
	DatabaseSlot *slot = mirrored_slot();

	return slot != NULL && pg_atomic_read_u32(&slot->mirror_behind) != 0;
}

/*
 * Set the bits of what is written, if there is a mirror: in the slot returned.
 */
static DatabaseSlot *
set_marks(void)
{
	DatabaseSlot *slot;

	/* What was written, or committed, before the question and the bits. */
	pg_memory_barrier();
	slot = mirrored_slot();
	if (slot == NULL)
		return NULL;
	for (int i = first_word; i <= last_word; i++)
	{
		if (written[i] != 0)
			pg_atomic_fetch_or_u32(&slot->mirror_dirty[i], written[i]);
	}
	return slot;
}

/*
 * NULL when there is no mirror.
 */
static DatabaseSlot *
mirrored_slot(void)
{
	DatabaseSlot *slot = shared_slot_if_attached();

	if (slot == NULL || pg_atomic_read_u32(&slot->mirror_wanted) == 0)
		return NULL;
	return slot;
}
