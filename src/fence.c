/*-------------------------------------------------------------------------
 *
 * fence.c
 *	  Fencing numbers.
 *
 * A fence is the value of the sequence fence_seq, which is not rolled back.  It is
 * not waited for on the disk: instead limit_seq has a number on disk that no fence
 * given out is above, raised RESERVE at a time.  When the server has come up anew,
 * after a crash or not, fences go on above that limit, since nobody knows how many
 * below it were seen.  start_seq says for which start of the server that has been
 * done.
 *
 * That leaves the ways in which the data of a server can go back in time or
 * live on twice: promotion of a standby that lacks the last WAL, recovery to
 * a point in time, dump and restore, a database copied as a template.  Each
 * changes the incarnation of the data: system identifier, timeline, database
 * or sequence are others than those recorded.  Then a new epoch begins.
 *
 * An epoch is the number of microseconds from 2024 to the moment it begins, and
 * its fences start at 4 times that.  Since nobody can draw 4 numbers a
 * microsecond from a sequence, every fence ever given out, in this copy of the
 * data or in any other, is below the epoch of the present; so a new epoch is
 * above what was lost with the WAL, and above the epochs of other copies, such
 * as other restores of the same dump.  Clocks that go wrong are allowed for: an
 * epoch that would not be above everything that can be seen here is put above
 * that, by a margin of 2^32 numbers.  A fence fits into 53 bits (numbers of
 * JavaScript, doubles) until 2095.
 *
 * Why a start of the server does not begin an epoch: an old primary that comes up
 * again by mistake after another has been promoted must not get greater fences
 * than that one, for then fences would keep out the wrong of the two.  What it
 * skips, RESERVE at each start, is worth 16 ms of the new primary's epoch.
 *
 * Recording and jumping are not transactional, so that a rollback does not
 * undo them and nobody waits for the transaction that happens to do it.  The
 * epoch and the incarnation are dumped, the counter and its limit are not:
 * restoring a dump over a live database cannot take it back.
 *
 * In which order.  Under a short lock of its own: read, choose, set the
 * limit and the counter, flush, record the incarnation, flush.  A crash between
 * leads to one more epoch.  The record of a start need not get to the disk: a
 * crash makes it wrong.  A session draws only after it has seen the records
 * right, and never remembers what it saw during recovery, since it may live
 * through a promotion.  It gives out a number only if it knows of a limit on disk
 * that is not below it; the limit only goes up.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "commands/sequence.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "fail_point.h"
#include "fence.h"
#include "incarnation.h"
#include "key_lock.h"
#include "relations.h"

/*
 * By how much the limit is put above the fence that has reached it: a flush for
 * that many fences.
 */
#define RESERVE 65536

/* Fences that an epoch has for each microsecond. */
#define FENCES_PER_MICROSECOND 4

/* By how much an epoch is put above what can be seen, if the clock is not. */
#define EPOCH_MARGIN (INT64CONST(1) << 32)

/* 2024-01-01 00:00 UTC in microseconds from 2000-01-01, where timestamps begin. */
#define EPOCH_ZERO (INT64CONST(8766) * USECS_PER_DAY)

/* What a sequence says of itself. */
typedef struct SequenceState
{
	int64		last_value;
	bool		is_called;
	XLogRecPtr	lsn;			/* of its last WAL record */
} SequenceState;

static void ensure_epoch(Oid fence_seq);
static void ensure_start(Oid fence_seq);
static void raise_limit(int64 fence);
static int64 current_start(void);
static int64 begin_epoch(Oid fence_seq, int64 above);
static void record_incarnation(Oid fence_seq);
static int64 current_incarnation(Oid fence_seq);
static int64 current_epoch(void);
static void sequence_read(Oid sequence, SequenceState *state);
static void sequence_set(Oid sequence, int64 value);
static void sequence_flush(Oid sequence);

/*
 * The fence sequence whose incarnation this session has found right.  Set
 * only outside recovery; from then on it can change only with the sequence.
 */
static Oid	verified_sequence = InvalidOid;

/* What this session knows to be on disk of limit_seq. */
static int64 limit_on_disk = 0;

int64
fence_next(int64 above)
{
	Oid			fence_seq = relations_oid(REL_FENCE_SEQ);

	if (verified_sequence != fence_seq)
		ensure_epoch(fence_seq);

	for (;;)
	{
		int64		fence = nextval_internal(fence_seq, false);

		FAIL_POINT("fence_drawn");
		if (fence > limit_on_disk)
			raise_limit(fence);
		if (fence > above)
			return fence;

		/* Somebody has set the sequence back. */
		epoch_lock_take();
		begin_epoch(fence_seq, above);
		epoch_lock_let_go();
	}
}

int64
fence_advance(void)
{
	Oid			fence_seq = relations_oid(REL_FENCE_SEQ);
	int64		base;

	ensure_epoch(fence_seq);
	epoch_lock_take();
	base = begin_epoch(fence_seq, 0);
	epoch_lock_let_go();
	return base;
}

int64
fence_epoch(void)
{
	SequenceState epoch;

	ensure_epoch(relations_oid(REL_FENCE_SEQ));
	sequence_read(relations_oid(REL_EPOCH_SEQ), &epoch);
	/* Whoever is beginning it now may not have got it to the disk yet. */
	XLogFlush(epoch.lsn);
	return epoch.is_called ? epoch.last_value : 0;
}

void
fence_record_incarnation(void)
{
	record_incarnation(relations_oid(REL_FENCE_SEQ));
}

/*
 * Begin a new epoch if the data is of another incarnation than the one
 * recorded.
 */
static void
ensure_epoch(Oid fence_seq)
{
	Oid			incarnation_seq = relations_oid(REL_INCARNATION_SEQ);
	int64		incarnation = current_incarnation(fence_seq);
	SequenceState recorded;

	/* First, so that the counter is above all that was given out here. */
	ensure_start(fence_seq);

	sequence_read(incarnation_seq, &recorded);
	if (!recorded.is_called || recorded.last_value != incarnation)
	{
		epoch_lock_take();
		sequence_read(incarnation_seq, &recorded);
		if (!recorded.is_called || recorded.last_value != incarnation)
		{
			begin_epoch(fence_seq, 0);
			record_incarnation(fence_seq);
		}
		epoch_lock_let_go();
	}

	/* A record set by another session may not have reached the disk. */
	sequence_flush(incarnation_seq);
	limit_on_disk = 0;
	verified_sequence = fence_seq;
}

/*
 * Let fences go on above the limit if the server has come up since they were
 * drawn last.
 */
static void
ensure_start(Oid fence_seq)
{
	Oid			start_seq = relations_oid(REL_START_SEQ);
	int64		start = current_start();
	SequenceState recorded;
	SequenceState fence;
	SequenceState limit;

	sequence_read(start_seq, &recorded);
	if (recorded.last_value == start)
		return;

	epoch_lock_take();
	sequence_read(start_seq, &recorded);
	if (recorded.last_value != start)
	{
		FAIL_POINT("fence_start_new");
		sequence_read(fence_seq, &fence);
		sequence_read(relations_oid(REL_LIMIT_SEQ), &limit);
		if (limit.last_value > fence.last_value)
			sequence_set(fence_seq, limit.last_value);
		FAIL_POINT("fence_start_skipped");
		sequence_set(start_seq, start);
		FAIL_POINT("fence_start_recorded");
	}
	epoch_lock_let_go();
}

/*
 * See to it that the limit on disk is not below "fence".
 */
static void
raise_limit(int64 fence)
{
	Oid			limit_seq = relations_oid(REL_LIMIT_SEQ);
	SequenceState limit;

	sequence_read(limit_seq, &limit);
	if (!limit.is_called || limit.last_value < fence)
	{
		FAIL_POINT("fence_limit_reached");
		epoch_lock_take();
		sequence_read(limit_seq, &limit);
		if (!limit.is_called || limit.last_value < fence)
			sequence_set(limit_seq, fence > PG_INT64_MAX - RESERVE ?
						 PG_INT64_MAX : fence + RESERVE);
		FAIL_POINT("fence_limit_set");
		epoch_lock_let_go();
		sequence_read(limit_seq, &limit);
	}

	/* Who has raised it may not have got it to the disk yet. */
	FAIL_POINT("fence_limit_not_flushed");
	XLogFlush(limit.lsn);
	limit_on_disk = limit.last_value;
}

/*
 * Move the fence to the start of a new epoch, above "above" as well; returns
 * that number, which is below all that follow.  The caller holds the epoch lock.
 */
static int64
begin_epoch(Oid fence_seq, int64 above)
{
	Oid			epoch_seq = relations_oid(REL_EPOCH_SEQ);
	Oid			limit_seq = relations_oid(REL_LIMIT_SEQ);
	SequenceState fence;
	SequenceState limit;
	SequenceState epoch_before;
	int64		seen;
	int64		epoch;

	sequence_read(fence_seq, &fence);
	sequence_read(limit_seq, &limit);
	sequence_read(epoch_seq, &epoch_before);

	seen = Max(fence.last_value, above);
	if (epoch_before.is_called)
		seen = Max(seen, epoch_before.last_value);
	if (seen > PG_INT64_MAX - 2 * EPOCH_MARGIN)
		ereport(ERROR,
				(errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
				 errmsg("fencing numbers are used up"),
				 errhint("Check the clock of the server.")));
	epoch = current_epoch();
	if (epoch <= seen)
		epoch = seen + EPOCH_MARGIN;

	FAIL_POINT("fence_epoch_begun");
	sequence_set(epoch_seq, epoch);
	FAIL_POINT("fence_epoch_set");
	if (limit.last_value < epoch)
		sequence_set(limit_seq, epoch);
	FAIL_POINT("fence_epoch_limit_set");
	sequence_set(fence_seq, epoch);
	FAIL_POINT("fence_epoch_not_flushed");
	/* What was logged before goes with it. */
	sequence_flush(fence_seq);
	return epoch;
}

static void
record_incarnation(Oid fence_seq)
{
	Oid			incarnation_seq = relations_oid(REL_INCARNATION_SEQ);

	sequence_set(incarnation_seq, current_incarnation(fence_seq));
	FAIL_POINT("fence_incarnation_not_flushed");
	sequence_flush(incarnation_seq);
}

/*
 * A digest of what tells this incarnation of the data from others, 1 or more.
 * Two incarnations have the same with a chance of 2^-62.
 */
static int64
current_incarnation(Oid fence_seq)
{
	struct
	{
		uint64		system_identifier;
		uint32		timeline;
		uint32		database;
		uint32		sequence;
		uint32		zero;
	}			incarnation;
	uint64		digest;

	Assert(!RecoveryInProgress());

	memset(&incarnation, 0, sizeof(incarnation));
	incarnation.system_identifier = GetSystemIdentifier();
	/* The control file learns of a new timeline later than this does. */
	incarnation.timeline = GetWALInsertionTimeLine();
	incarnation.database = MyDatabaseId;
	incarnation.sequence = fence_seq;
	digest = hash_bytes_extended((const unsigned char *) &incarnation,
								 sizeof(incarnation), 0);
	return (int64) (digest >> 1) | 1;
}

/*
 * A number for this start of the server, 1 or more.
 */
static int64
current_start(void)
{
	return (incarnation_start() & PG_INT64_MAX) | 1;
}

static int64
current_epoch(void)
{
	int64		microseconds = GetCurrentTimestamp() - EPOCH_ZERO;

	/* A clock that is thousands of centuries wrong is no help. */
	if (microseconds < 0 ||
		microseconds > PG_INT64_MAX / FENCES_PER_MICROSECOND - EPOCH_MARGIN)
		return 0;
	return microseconds * FENCES_PER_MICROSECOND;
}

/*
 * Read a sequence's page: one tuple, written in place.
 */
static void
sequence_read(Oid sequence, SequenceState *state)
{
	Relation	rel = relation_open(sequence, AccessShareLock);
	Buffer		buffer = ReadBuffer(rel, 0);
	Page		page;
	ItemId		item;
	Form_pg_sequence_data data;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	item = PageGetItemId(page, FirstOffsetNumber);
	data = (Form_pg_sequence_data)
		((char *) PageGetItem(page, item) +
		 ((HeapTupleHeader) PageGetItem(page, item))->t_hoff);
	state->last_value = data->last_value;
	state->is_called = data->is_called;
	state->lsn = RelationNeedsWAL(rel) ? PageGetLSN(page) : InvalidXLogRecPtr;
	UnlockReleaseBuffer(buffer);
	relation_close(rel, NoLock);
}

/*
 * setval() wants the caller to have the right to it; the caller of a lock
 * function need not.  An error resets the user with the transaction.
 */
static void
sequence_set(Oid sequence, int64 value)
{
	Oid			user;
	int			context;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   context | SECURITY_LOCAL_USERID_CHANGE);
	DirectFunctionCall2(setval_oid, ObjectIdGetDatum(sequence),
						Int64GetDatum(value));
	SetUserIdAndSecContext(user, context);
}

/*
 * Wait until what was done to the sequence is on disk.
 */
static void
sequence_flush(Oid sequence)
{
	SequenceState state;

	sequence_read(sequence, &state);
	if (!XLogRecPtrIsInvalid(state.lsn))
		XLogFlush(state.lsn);
}
