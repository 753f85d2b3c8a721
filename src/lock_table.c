/*-------------------------------------------------------------------------
 *
 * lock_table.c
 *	  The table of locks: how rows are found, judged and written.
 *
 * This is the only file that touches the table, with lock_page.c, which reads
 * whole pages of it.  It uses the table's and the index's access methods
 * directly and not SQL: no search_path, operator,
 * trigger, rule or policy can get in between, the newest version of a row is
 * seen at every isolation level, and it costs a fraction.
 *
 * For that the table has to be as the extension made it, which is checked after
 * every change of its definition: above all it must not have other indexes,
 * because nobody would fill them.
 *
 * Why lock_table_find() sees the newest version.  Other writers of the row
 * hold the key lock until after their transaction has ended, so under the key
 * lock every version is committed, aborted or our own, and SnapshotSelf takes
 * just the newest of them.  Looks use a dirty snapshot, which also sees what
 * others have not committed; when a row moves to another page meanwhile, both
 * kinds can miss it.
 *
 * A find goes on with the version that the last look has left in the slot, if it
 * is still good, and a look goes first to where this session last saw or wrote the
 * row, which is often where it still is: that spares the index, and the dead
 * versions before the live one.  What is there may be another version by now, or
 * another key's.  But a version of this key that is live, and that nobody is
 * changing, is the newest wherever it was found, since a key never has two.
 *
 * The index is scanned backward: entries of the same key are in the order of
 * their places in the table, so that the newest version tends to come first
 * even when an old snapshot keeps many dead ones from being removed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "fail_point.h"
#include "key.h"
#include "lock_shape.h"
#include "lock_table.h"
#include "mirror_marks.h"
#include "relations.h"
#include "schedule.h"
#include "shared.h"
#include "text_bytes.h"
#include "token.h"

/* Where this session last saw or wrote rows, by the hashes of their keys. */
#define NUM_PLACES 2048

typedef struct Place
{
	uint64		key_hash;
	ItemPointerData tid;
} Place;

static Place places[NUM_PLACES];

static bool open_locked(LockTable *table, Oid oid, LOCKMODE mode);
static void begin_use(LockTable *table, LOCKMODE mode);
static Relation open_index(LockTable *table);
static void note_written(const LockRow *row, const ItemPointerData *tid);
static bool pruning_is_due(LockTable *table);
static void prune_page(LockTable *table, BlockNumber block);
static bool page_exists(Relation table, BlockNumber block);
static void remember_place(uint64 key_hash, const ItemPointerData *tid);
static bool look_where_remembered(LockTable *table, const LockKey *key,
								  LockLook *look);
static IndexScanDesc begin_scan(LockTable *table, const LockKey *key,
								Snapshot snapshot);
static bool find_what_was_seen(LockTable *table, const LockKey *key,
							   LockRow *row);
static bool read_slot(LockTable *table, const LockKey *key, LockRow *row);
static HeapTuple found_tuple(LockTable *table);
static void copy_texts(LockRow *row);
static void insert_index_entries(LockTable *table, TupleTableSlot *slot,
								 bool unchanged);
static void insert_index_entry(Relation table, Relation index,
							   TupleTableSlot *slot, bool unchanged);

void
lock_table_init(void)
{
	lock_shape_init();
}

void
lock_table_open(LockTable *table, LOCKMODE mode)
{
	Oid			oid = relations_oid(REL_LOCK);

	/* Who is about to write needs it, and may not fail for it later. */
	if (mode == RowExclusiveLock)
		(void) shared_slot();

	LockRelationOid(oid, mode);
	if (!open_locked(table, oid, mode))
		relations_error_missing();
	if (!lock_shape_check(table->table))
		lock_table_error_unfit();
	begin_use(table, mode);
}

void
lock_table_error_unfit(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table distlock.lock is not as this version of distlock expects it"),
			 errdetail("A column, an index or another property has been changed, or the library and the extension are of different versions."),
			 errhint("Undo the change (additional indexes cannot be used), run ALTER EXTENSION distlock UPDATE, or install the library of the extension's version.")));
}

LockTableState
lock_table_try_open(LockTable *table, LOCKMODE mode)
{
	Oid			oid = relations_find(REL_LOCK);

	if (!OidIsValid(oid))
		return LOCK_TABLE_MISSING;
	if (!ConditionalLockRelationOid(oid, mode))
		return LOCK_TABLE_BUSY;
	if (!open_locked(table, oid, mode))
		return LOCK_TABLE_MISSING;
	if (!lock_shape_check(table->table))
	{
		table_close(table->table, mode);
		return LOCK_TABLE_UNFIT;
	}
	begin_use(table, mode);
	return LOCK_TABLE_OPEN;
}

void
lock_table_close(LockTable *table, bool keep_lock)
{
	LOCKMODE	release = keep_lock ? NoLock : table->mode;

	ExecDropSingleTupleTableSlot(table->slot);
	if (table->index != NULL)
		index_close(table->index, release);
	table_close(table->table, release);
}

bool
lock_table_find(LockTable *table, const LockKey *key, LockRow *row)
{
	IndexScanDesc scan;
	bool		found;

	if (find_what_was_seen(table, key, row))
		return true;
	table->seen = false;

	scan = begin_scan(table, key, SnapshotSelf);
	found = index_getnext_slot(scan, BackwardScanDirection, table->slot);

	/* The slot has a pin of its own on the row's page. */
	index_endscan(scan);
	if (!found)
		return false;
	slot_getallattrs(table->slot);
	lock_shape_read(row, table->slot->tts_values, table->slot->tts_isnull);
	return true;
}

bool
lock_table_found_visible(LockTable *table, Snapshot snapshot)
{
	return lock_table_found_is_own(table) ||
		table_tuple_satisfies_snapshot(table->table, table->slot, snapshot);
}

bool
lock_table_found_is_own(LockTable *table)
{
	return TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(found_tuple(table)->t_data));
}

bool
lock_table_found_settled(LockTable *table, TransactionId horizon)
{
	TransactionId xmin = HeapTupleHeaderGetXmin(found_tuple(table)->t_data);

	return !TransactionIdIsNormal(xmin) || TransactionIdPrecedes(xmin, horizon);
}

TransactionId
lock_table_horizon(LockTable *table)
{
	return mirror_marks_horizon(GetOldestNonRemovableTransactionId(table->table));
}

void
lock_table_insert(LockTable *table, const LockRow *row)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(table->table),
													&TTSOpsVirtual);

	lock_shape_write(row, slot);
	table_tuple_insert(table->table, slot, GetCurrentCommandId(true), 0, NULL);
	FAIL_POINT("row_not_indexed");
	insert_index_entries(table, slot, false);
	note_written(row, &slot->tts_tid);
	ExecDropSingleTupleTableSlot(slot);
	CommandCounterIncrement();
}

/*
 * Updates in place, as a rule: nothing that is indexed changes.  Never waits.
 */
bool
lock_table_update_found(LockTable *table, const LockRow *row)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(table->table),
													&TTSOpsVirtual);
	ItemPointerData tid = table->slot->tts_tid;
	TM_FailureData failure;
	bool		new_index_entries;
	bool		updated;

	lock_shape_write(row, slot);
	updated = compat_table_update(table->table, &tid, slot,
								  GetCurrentCommandId(true), &failure,
								  &new_index_entries) == TM_Ok;
	if (updated)
	{
		FAIL_POINT("row_updated");
		if (new_index_entries)
			insert_index_entries(table, slot, true);
		note_written(row, &slot->tts_tid);
		CommandCounterIncrement();
	}
	ExecDropSingleTupleTableSlot(slot);
	return updated;
}

bool
lock_table_delete_found(LockTable *table)
{
	TM_FailureData failure;
	Buffer		buffer;

	if (table_tuple_delete(table->table, &table->slot->tts_tid,
						   GetCurrentCommandId(true), InvalidSnapshot,
						   InvalidSnapshot, false, &failure, false) != TM_Ok)
		return false;
	mirror_marks_note_deleted(ItemPointerGetBlockNumber(&table->slot->tts_tid),
							  HeapTupleHeaderGetRawXmin(found_tuple(table)->t_data));
	FAIL_POINT("row_deleted");

	/*
	 * Have the page pruned at the next visit, however much space it has: what
	 * is left for new rows may still be less than one needs.  This is a hint.
	 */
	buffer = ((BufferHeapTupleTableSlot *) table->slot)->buffer;
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	PageSetFull(BufferGetPage(buffer));
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);

	CommandCounterIncrement();
	return true;
}

void
lock_table_look(LockTable *table, const LockKey *key, LockLook *look)
{
	SnapshotData dirty;
	IndexScanDesc scan;

	look->found = look->changing = false;
	look->pending = look->pending_free = false;
	table->seen = false;
	if (look_where_remembered(table, key, look))
		return;

	InitDirtySnapshot(dirty);
	scan = begin_scan(table, key, &dirty);
	while (index_getnext_slot(scan, BackwardScanDirection, table->slot))
	{
		LockRow		row;

		slot_getallattrs(table->slot);
		lock_shape_read(&row, table->slot->tts_values,
						table->slot->tts_isnull);
		copy_texts(&row);

		/* The snapshot tells who is at the version that it has returned. */
		if (!TransactionIdIsValid(dirty.xmin))
		{
			look->found = true;
			look->row = row;
			look->changing = TransactionIdIsValid(dirty.xmax);

			/*
			 * Who makes another version marks this one first, so that there
			 * is none yet: the older ones, which there may be very many of,
			 * need not be waded through.
			 */
			if (!look->changing)
			{
				table->seen = true;
				remember_place(key->hash, &table->slot->tts_tid);
				break;
			}
			continue;
		}
		if (row.token == NULL)
			look->pending_free = true;
		if (!look->pending || row.fence > look->pending_row.fence ||
			(row.fence == look->pending_row.fence && row.token == NULL))
			look->pending_row = row;
		look->pending = true;
	}
	index_endscan(scan);
	if (!table->seen)
		ExecClearTuple(table->slot);
}

/*
 * A look that finds nothing is not believed, but repeated with a snapshot
 * that cannot miss a row.  That is left for last because it would make the
 * caller's transaction depend on the row if it is a serializable one.
 */
bool
lock_table_read(LockTable *table, const LockKey *key, LockRow *row)
{
	bool		found = lock_table_find(table, key, row);

	if (!found)
	{
		Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
		IndexScanDesc scan = begin_scan(table, key, snapshot);

		found = index_getnext_slot(scan, BackwardScanDirection, table->slot);
		index_endscan(scan);
		UnregisterSnapshot(snapshot);
		if (found)
		{
			slot_getallattrs(table->slot);
			lock_shape_read(row, table->slot->tts_values,
							table->slot->tts_isnull);
		}
	}
	if (found)
		copy_texts(row);
	ExecClearTuple(table->slot);
	return found;
}

/*
 * The row found last stays found.
 */
int64
lock_table_fence_seen_by(LockTable *table, const LockKey *key,
						 Snapshot snapshot)
{
	TupleTableSlot *slot = table_slot_create(table->table, NULL);
	IndexScanDesc scan = begin_scan(table, key, snapshot);
	int64		fence = 0;

	if (index_getnext_slot(scan, BackwardScanDirection, slot))
	{
		bool		isnull;

		fence = DatumGetInt64(slot_getattr(slot, COLUMN_FENCE + 1, &isnull));
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return fence;
}

List *
lock_table_keys_with_token(LockTable *table, const text *token)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(table->table, snapshot, 0, NULL);
	List	   *keys = NIL;
	LockRow		row;

	while (table_scan_getnextslot(scan, ForwardScanDirection, table->slot))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(table->slot);
		lock_shape_read(&row, table->slot->tts_values,
						table->slot->tts_isnull);
		if (row.token != NULL && token_equal(row.token, token))
			keys = lappend(keys, text_copy(row.key));
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecClearTuple(table->slot);
	return keys;
}

List *
lock_table_keys_with_hash(LockTable *table, const uint64 *hashes, int nhashes)
{
	SnapshotData dirty;
	TableScanDesc scan;
	List	   *keys = NIL;
	LockRow		row;
	LockKey		key;

	InitDirtySnapshot(dirty);
	scan = table_beginscan(table->table, &dirty, 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, table->slot))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(table->slot);
		lock_shape_read(&row, table->slot->tts_values,
						table->slot->tts_isnull);
		key_from_stored(&key, row.key);
		for (int i = 0; i < nhashes; i++)
		{
			if (hashes[i] == key.hash)
			{
				keys = lappend(keys, text_copy(row.key));
				break;
			}
		}
	}
	table_endscan(scan);
	ExecClearTuple(table->slot);
	return keys;
}

BlockNumber
lock_table_pages(LockTable *table)
{
	return RelationGetNumberOfBlocks(table->table);
}

Oid
lock_table_storage(LockTable *table)
{
	return table->table->rd_rel->relfilenode;
}

/*
 * Open the table, which has just been locked: that brings the news of what has
 * become of it.  False, and unlocked, if it is not there any more.
 */
static bool
open_locked(LockTable *table, Oid oid, LOCKMODE mode)
{
	if (relations_find(REL_LOCK) != oid)
	{
		UnlockRelationOid(oid, mode);
		return false;
	}
	table->table = table_open(oid, NoLock);
	return true;
}

static void
begin_use(LockTable *table, LOCKMODE mode)
{
	table->mode = mode;
	table->index = NULL;
	table->slot = table_slot_create(table->table, NULL);
	table->seen = false;
}

static Relation
open_index(LockTable *table)
{
	if (table->index == NULL)
		table->index = index_open(compat_primary_key(table->table),
								  table->mode);
	return table->index;
}

static IndexScanDesc
begin_scan(LockTable *table, const LockKey *key, Snapshot snapshot)
{
	IndexScanDesc scan;
	ScanKeyData condition;

	ScanKeyInit(&condition, 1, BTEqualStrategyNumber, F_TEXTEQ,
				PointerGetDatum(key->value));
	scan = compat_index_beginscan(table->table, open_index(table), snapshot, 1);
	index_rescan(scan, &condition, 1, NULL, 0);
	return scan;
}

static void
note_written(const LockRow *row, const ItemPointerData *tid)
{
	LockKey		key;

	key_from_stored(&key, row->key);
	remember_place(key.hash, tid);
	schedule_note(ItemPointerGetBlockNumber(tid), schedule_row_due(row));
	mirror_marks_note(ItemPointerGetBlockNumber(tid));
}

static void
remember_place(uint64 key_hash, const ItemPointerData *tid)
{
	Place	   *place = &places[key_hash % NUM_PLACES];

	place->key_hash = key_hash;
	place->tid = *tid;
}

/*
 * False when nothing is known for certain: look in the index.
 */
static bool
look_where_remembered(LockTable *table, const LockKey *key, LockLook *look)
{
	Place	   *place = &places[key->hash % NUM_PLACES];
	SnapshotData dirty;

	if (place->key_hash != key->hash || !ItemPointerIsValid(&place->tid) ||
		!page_exists(table->table, ItemPointerGetBlockNumber(&place->tid)))
		return false;

	InitDirtySnapshot(dirty);
	if (!table_tuple_fetch_row_version(table->table, &place->tid, &dirty,
									   table->slot))
		return false;
	if (pruning_is_due(table))
	{
		prune_page(table, ItemPointerGetBlockNumber(&place->tid));
		if (!table_tuple_fetch_row_version(table->table, &place->tid, &dirty,
										   table->slot))
			return false;
	}
	if (TransactionIdIsValid(dirty.xmin) ||
		TransactionIdIsValid(dirty.xmax) ||
		!read_slot(table, key, &look->row))
		return false;
	copy_texts(&look->row);
	look->found = true;
	table->seen = true;
	return true;
}

/*
 * Would heap_page_prune_opt() do anything with the page of the slot, as far as can
 * be seen without a lock?
 */
static bool
pruning_is_due(LockTable *table)
{
	Page		page = BufferGetPage(((BufferHeapTupleTableSlot *) table->slot)->buffer);
	Size		enough = RelationGetTargetPageFreeSpace(table->table,
														HEAP_DEFAULT_FILLFACTOR);

	return TransactionIdIsValid(((PageHeader) page)->pd_prune_xid) &&
		(PageIsFull(page) ||
		 PageGetHeapFreeSpace(page) < Max(enough, BLCKSZ / 10));
}

/*
 * As an index scan would do: dead versions make room for the next.  It moves rows
 * about and wants the page for itself, so that the slot has to let go of it.
 */
static void
prune_page(LockTable *table, BlockNumber block)
{
	Buffer		buffer;

	ExecClearTuple(table->slot);
	buffer = ReadBuffer(table->table, block);
	FAIL_POINT("page_before_pruning");
	heap_page_prune_opt(table->table, buffer);
	ReleaseBuffer(buffer);
}

/*
 * The table may have been truncated since.  Whoever does that has it locked, so
 * that the lock on the table, which we have, has brought the news of it: the size
 * known from earlier, which spares the system call, is then forgotten.
 */
static bool
page_exists(Relation table, BlockNumber block)
{
	BlockNumber known = RelationGetSmgr(table)->smgr_cached_nblocks[MAIN_FORKNUM];

	return (known != InvalidBlockNumber && block < known) ||
		block < RelationGetNumberOfBlocks(table);
}

/*
 * The slot's pin has kept the version that the look saw where it is; it remains
 * to see whether it is still the newest.
 */
static bool
find_what_was_seen(LockTable *table, const LockKey *key, LockRow *row)
{
	return table->seen &&
		table_tuple_satisfies_snapshot(table->table, table->slot,
									   SnapshotSelf) &&
		read_slot(table, key, row);
}

/*
 * False if the row in the slot is another key's.
 */
static bool
read_slot(LockTable *table, const LockKey *key, LockRow *row)
{
	LockKey		found;

	slot_getallattrs(table->slot);
	lock_shape_read(row, table->slot->tts_values, table->slot->tts_isnull);
	key_from_stored(&found, row->key);
	return key_equal(&found, key);
}

static HeapTuple
found_tuple(LockTable *table)
{
	return ExecFetchSlotHeapTuple(table->slot, false, NULL);
}

/*
 * Those that are asked for; who looks or reads has the key.
 */
static void
copy_texts(LockRow *row)
{
	row->key = NULL;
	row->token = text_copy(row->token);
	row->owner = text_copy(row->owner);
	row->data = NULL;
}

static void
insert_index_entries(LockTable *table, TupleTableSlot *slot, bool unchanged)
{
	List	   *indexes;
	ListCell   *cell;

	insert_index_entry(table->table, open_index(table), slot, unchanged);
	if (!lock_shape_has_twin_index())
		return;

	indexes = RelationGetIndexList(table->table);
	foreach(cell, indexes)
	{
		Relation	index;

		if (lfirst_oid(cell) == RelationGetRelid(table->index))
			continue;
		index = index_open(lfirst_oid(cell), RowExclusiveLock);
		if (index->rd_index->indisready)
			insert_index_entry(table->table, index, slot, unchanged);
		index_close(index, NoLock);
	}
	list_free(indexes);
}

static void
insert_index_entry(Relation table, Relation index, TupleTableSlot *slot,
				   bool unchanged)
{
	IndexInfo  *info = BuildIndexInfo(index);
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];

	FormIndexDatum(info, slot, NULL, values, isnull);
	index_insert(index, values, isnull, &slot->tts_tid, table,
				 index->rd_index->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
				 unchanged, info);
	pfree(info);
}
