/*-------------------------------------------------------------------------
 *
 * lock_page.c
 *	  The table of locks, read page by page.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/subtrans.h"
#include "access/transam.h"
#include "access/twophase.h"
#include "storage/bufmgr.h"
#include "storage/freespace.h"
#include "storage/procarray.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "fail_point.h"
#include "lock_page.h"
#include "lock_shape.h"

/* A page that is being read, and where its rows are taken apart. */
typedef struct PageReader
{
	Relation	table;
	Page		page;
	BlockNumber number;
	Buffer		buffer;
	Datum	   *values;
	bool	   *isnull;
} PageReader;

static void begin(PageReader *reader, LockTable *table, BlockNumber page);
static void end(PageReader *reader);
static bool get_tuple(PageReader *reader, OffsetNumber offset, HeapTuple tuple);
static void get_row(PageReader *reader, HeapTuple tuple, LockRow *row);
static TransactionId writer_at_work(HeapTupleHeader tuple, Snapshot snapshot);
static bool is_prepared(TransactionId xid);

/*
 * Reading the page also prunes it: what earlier purges deleted becomes free
 * space, which is reported so that it is used before the table grows.
 */
void
lock_page_visit(LockTable *table, BlockNumber page, TransactionId horizon,
				LockRowVisitor visit, void *arg)
{
	PageReader	reader;
	HeapTupleData tuple;
	Size		space;

	begin(&reader, table, page);
	space = PageGetHeapFreeSpace(reader.page);
	for (OffsetNumber offset = FirstOffsetNumber;
		 offset <= PageGetMaxOffsetNumber(reader.page);
		 offset = OffsetNumberNext(offset))
	{
		SnapshotData dirty;
		TransactionId xmin;
		LockRow		row;

		InitDirtySnapshot(dirty);
		if (!get_tuple(&reader, offset, &tuple) ||
			!HeapTupleSatisfiesVisibility(&tuple, &dirty, reader.buffer))
			continue;
		xmin = HeapTupleHeaderGetXmin(tuple.t_data);
		get_row(&reader, &tuple, &row);
		visit(&row,
			  TransactionIdIsValid(dirty.xmin) || TransactionIdIsValid(dirty.xmax),
			  !TransactionIdIsNormal(xmin) || TransactionIdPrecedes(xmin, horizon),
			  arg);
	}
	end(&reader);

	if (GetRecordedFreeSpace(table->table, page) < space)
	{
		RecordPageWithFreeSpace(table->table, page, space);
		FreeSpaceMapVacuumRange(table->table, page, page + 1);
	}
}

bool
lock_page_read(LockTable *table, BlockNumber page, Snapshot snapshot,
			   LockRowReader read, void *arg, TransactionId *prepared)
{
	PageReader	reader;
	HeapTupleData tuple;
	bool		at_work = false;
	TransactionId last = InvalidTransactionId;

	begin(&reader, table, page);
	for (OffsetNumber offset = FirstOffsetNumber;
		 offset <= PageGetMaxOffsetNumber(reader.page);
		 offset = OffsetNumberNext(offset))
	{
		LockRow		row;
		TransactionId writer;

		if (!get_tuple(&reader, offset, &tuple))
			continue;
		writer = writer_at_work(tuple.t_data, snapshot);
		if (TransactionIdIsValid(writer) && writer != last)
		{
			at_work = true;
			if (is_prepared(writer))
				*prepared = TransactionIdOlder(*prepared, writer);
			last = writer;
		}
		if (!HeapTupleSatisfiesVisibility(&tuple, snapshot, reader.buffer))
			continue;
		get_row(&reader, &tuple, &row);
		read(&row, arg);
	}
	end(&reader);
	return at_work;
}

static void
begin(PageReader *reader, LockTable *table, BlockNumber page)
{
	int			natts = RelationGetDescr(table->table)->natts;

	reader->table = table->table;
	reader->number = page;
	reader->values = palloc(natts * sizeof(Datum));
	reader->isnull = palloc(natts * sizeof(bool));
	reader->buffer = ReadBuffer(table->table, page);
	heap_page_prune_opt(table->table, reader->buffer);
	FAIL_POINT("page_pruned");
	LockBuffer(reader->buffer, BUFFER_LOCK_SHARE);
	reader->page = BufferGetPage(reader->buffer);
}

static void
end(PageReader *reader)
{
	UnlockReleaseBuffer(reader->buffer);
	pfree(reader->values);
	pfree(reader->isnull);
}

static bool
get_tuple(PageReader *reader, OffsetNumber offset, HeapTuple tuple)
{
	ItemId		item = PageGetItemId(reader->page, offset);

	if (!ItemIdIsNormal(item))
		return false;
	tuple->t_data = (HeapTupleHeader) PageGetItem(reader->page, item);
	tuple->t_len = ItemIdGetLength(item);
	tuple->t_tableOid = RelationGetRelid(reader->table);
	ItemPointerSet(&tuple->t_self, reader->number, offset);
	return true;
}

static void
get_row(PageReader *reader, HeapTuple tuple, LockRow *row)
{
	heap_deform_tuple(tuple, RelationGetDescr(reader->table), reader->values,
					  reader->isnull);
	lock_shape_read(row, reader->values, reader->isnull);
}

/*
 * The transaction that the snapshot has seen at work on this version, if any.  One
 * that was prepared is at work until it is committed or rolled back.
 */
static TransactionId
writer_at_work(HeapTupleHeader tuple, Snapshot snapshot)
{
	TransactionId xid;

	if (HeapTupleHeaderXminInvalid(tuple))
		return InvalidTransactionId;
	xid = HeapTupleHeaderGetRawXmin(tuple);
	if (!HeapTupleHeaderXminFrozen(tuple) && XidInMVCCSnapshot(xid, snapshot))
		return xid;
	if ((tuple->t_infomask & HEAP_XMAX_INVALID) != 0 ||
		HEAP_XMAX_IS_LOCKED_ONLY(tuple->t_infomask))
		return InvalidTransactionId;
	xid = HeapTupleHeaderGetUpdateXid(tuple);
	return XidInMVCCSnapshot(xid, snapshot) ? xid : InvalidTransactionId;
}

/*
 * True as well if it has just ended: it belongs to no session.
 */
static bool
is_prepared(TransactionId xid)
{
	return max_prepared_xacts > 0 &&
		BackendXidGetPid(SubTransGetTopmostTransaction(xid)) == 0;
}
