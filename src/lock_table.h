/*-------------------------------------------------------------------------
 *
 * lock_table.h
 *	  The table of locks: how rows are found, judged and written.
 *
 * Protocol.  Rows are written only by who holds the key lock in a mode that
 * excludes other writers (see key_lock.h), and such a caller sees the newest
 * version with lock_table_find().  Without the key lock there are looks
 * (lock_table_look), which may miss a row that is being moved, and reads
 * (lock_table_read), which may not.
 *
 * A key can have several rows, one for each permit; an exclusive lock is a
 * key with one row, of permit 0.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_LOCK_TABLE_H
#define DISTLOCK_LOCK_TABLE_H

#include "access/htup_details.h"
#include "distlock.h"
#include "executor/tuptable.h"
#include "nodes/pg_list.h"
#include "storage/block.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* The table while it is open. */
typedef struct LockTable
{
	Relation	table;
	Relation	index;			/* its primary key; NULL until needed */
	LOCKMODE	mode;
	TupleTableSlot *slot;		/* the row found last */
	bool		seen;			/* the slot has the row that the last look
								 * found, which nobody was changing */
} LockTable;

/*
 * What can be seen of a key without its lock.  A transaction that has changed
 * the row several times shows all the versions that it has made.
 */
typedef struct LockLook
{
	bool		found;			/* a row that is committed, or our own */
	LockRow		row;
	bool		changing;		/* another transaction is changing that row */
	bool		pending;		/* versions of it that are not committed */
	bool		pending_free;	/* one of them is free */
	LockRow		pending_row;	/* the newest: the highest fence, and free
								 * rather than held */
} LockLook;

/* What can be said of the table when it is to be opened. */
typedef enum LockTableState
{
	LOCK_TABLE_OPEN,
	LOCK_TABLE_MISSING,			/* no extension here */
	LOCK_TABLE_BUSY,			/* somebody is changing its definition */
	LOCK_TABLE_UNFIT			/* it is not as the extension made it */
} LockTableState;

/*
 * Open and close.  Raises 55000 when the table is not there or not as the
 * extension made it; try_open says so instead, and does not wait.  With
 * keep_lock the table's lock is kept to the end of the transaction, as is fit
 * after writing.
 */
extern void lock_table_open(LockTable *table, LOCKMODE mode);
extern LockTableState lock_table_try_open(LockTable *table, LOCKMODE mode);
extern void lock_table_close(LockTable *table, bool keep_lock);

/*
 * Find the newest version of the key's row; the caller holds the key lock.
 * It costs little after a look at the same key with the table open since.  The
 * row's texts point into the table's buffer: they are good until the next
 * call that finds a row, or lock_table_close().
 */
extern bool lock_table_find(LockTable *table, const LockKey *key, LockRow *row);

/* Of the row found: may this snapshot see it?  Own changes it may. */
extern bool lock_table_found_visible(LockTable *table, Snapshot snapshot);

/* Of the row found: did this transaction write it? */
extern bool lock_table_found_is_own(LockTable *table);

/* Of the row found: can every snapshot see it?  See lock_table_horizon(). */
extern bool lock_table_found_settled(LockTable *table, TransactionId horizon);
extern TransactionId lock_table_horizon(LockTable *table);

/*
 * Write.  The change is visible to the rest of the same command.  False when a
 * row is locked or changed by somebody's SQL statement.
 */
extern void lock_table_insert(LockTable *table, const LockRow *row);
extern bool lock_table_update_found(LockTable *table, const LockRow *row);
extern bool lock_table_delete_found(LockTable *table);

/* Without the key lock; the rows' texts are palloc'd; key and data are left out. */
extern void lock_table_look(LockTable *table, const LockKey *key,
							LockLook *look);
extern bool lock_table_read(LockTable *table, const LockKey *key,
							LockRow *row);

/* The fence of the version of the row that this snapshot sees; 0 for none. */
extern int64 lock_table_fence_seen_by(LockTable *table, const LockKey *key,
									  Snapshot snapshot);

/* The keys (text *) of the rows with this token, by reading all rows. */
extern List *lock_table_keys_with_token(LockTable *table, const text *token);

/*
 * The keys (text *) of all rows, uncommitted ones too, whose hash is among
 * those given.
 */
extern List *lock_table_keys_with_hash(LockTable *table, const uint64 *hashes,
									   int nhashes);

/* The table's file; another after TRUNCATE, VACUUM FULL and the like. */
extern Oid	lock_table_storage(LockTable *table);

extern BlockNumber lock_table_pages(LockTable *table);

/* Raise 55000: the table is not as the extension made it. */
pg_noreturn extern void lock_table_error_unfit(void);

/* Call once when the library is loaded. */
extern void lock_table_init(void);

#endif							/* DISTLOCK_LOCK_TABLE_H */
