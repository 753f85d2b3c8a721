/*-------------------------------------------------------------------------
 *
 * lock_shape.c
 *	  What the table of locks looks like: its columns, as rows and as tuples.
 *
 * Part of the lock table (lock_table.c), which is used as the extension made
 * it, without asking the planner: so it is checked, after every change of its
 * definition, that it still is so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"

#include "compat.h"
#include "lock_shape.h"
#include "relations.h"

typedef struct ColumnShape
{
	const char *name;
	Oid			type;
} ColumnShape;

static const ColumnShape columns[NUM_COLUMNS] = {
	[COLUMN_FENCE] = {"fence", INT8OID},
	[COLUMN_ACQUIRED_AT] = {"acquired_at", TIMESTAMPTZOID},
	[COLUMN_EXPIRES_AT] = {"expires_at", TIMESTAMPTZOID},
	[COLUMN_TTL] = {"ttl", INT8OID},
	[COLUMN_PID] = {"pid", INT4OID},
	[COLUMN_ROLE] = {"role", OIDOID},
	[COLUMN_PERMIT] = {"permit", INT2OID},
	[COLUMN_SCOPE] = {"scope", CHAROID},
	[COLUMN_KEY] = {"key", TEXTOID},
	[COLUMN_TOKEN] = {"token", TEXTOID},
	[COLUMN_OWNER] = {"owner", TEXTOID},
	[COLUMN_DATA] = {"data", TEXTOID},
	[COLUMN_INCARNATION] = {"incarnation", TIMESTAMPTZOID},
};

/* The table whose shape was found right, and whether it has two indexes. */
static Oid	checked_table = InvalidOid;
static bool has_twin_index = false;

static void forget_check(Datum arg, Oid relid);

void
lock_shape_init(void)
{
	CacheRegisterRelcacheCallback(forget_check, (Datum) 0);
}

bool
lock_shape_has_twin_index(void)
{
	return has_twin_index;
}

static void
forget_check(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == checked_table)
		checked_table = InvalidOid;
}

/*
 * Opening the table has told whether its definition has changed since it was
 * last checked.
 */
bool
lock_shape_check(Relation table)
{
	TupleDesc	descriptor = RelationGetDescr(table);
	List	   *indexes;
	ListCell   *cell;
	bool		expected;

	if (checked_table == RelationGetRelid(table))
		return true;

	indexes = RelationGetIndexList(table);
	expected = table->rd_rel->relkind == RELKIND_RELATION &&
		table->rd_rel->relpersistence == RELPERSISTENCE_PERMANENT &&
		table->rd_tableam == GetHeapamTableAmRoutine() &&
		descriptor->natts >= NUM_COLUMNS &&
		OidIsValid(compat_primary_key(table));
	foreach(cell, indexes)
	{
		/* REINDEX CONCURRENTLY makes another, which has to be filled too. */
		if (expected && lfirst_oid(cell) != compat_primary_key(table))
			expected = relations_indexes_alike(compat_primary_key(table),
											   lfirst_oid(cell));
	}
	for (int i = 0; expected && i < descriptor->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(descriptor, i);

		/* A column that was added and dropped again does no harm. */
		if (i >= NUM_COLUMNS)
			expected = attribute->attisdropped;
		else
			expected = !attribute->attisdropped &&
				attribute->atttypid == columns[i].type &&
				strcmp(NameStr(attribute->attname), columns[i].name) == 0;
	}
	if (expected)
	{
		checked_table = RelationGetRelid(table);
		has_twin_index = list_length(indexes) > 1;
	}
	list_free(indexes);
	return expected;
}

void
lock_shape_read(LockRow *row, const Datum *values, const bool *isnull)
{
	row->fence = DatumGetInt64(values[COLUMN_FENCE]);
	row->acquired_at = DatumGetTimestampTz(values[COLUMN_ACQUIRED_AT]);
	row->expires_at = DatumGetTimestampTz(values[COLUMN_EXPIRES_AT]);
	row->ttl = DatumGetInt64(values[COLUMN_TTL]);
	row->pid = DatumGetInt32(values[COLUMN_PID]);
	row->role = DatumGetObjectId(values[COLUMN_ROLE]);
	row->permit = DatumGetInt16(values[COLUMN_PERMIT]);
	row->scope = (LockScope) DatumGetChar(values[COLUMN_SCOPE]);
	row->key = DatumGetTextPP(values[COLUMN_KEY]);
	row->token = isnull[COLUMN_TOKEN] ? NULL :
		DatumGetTextPP(values[COLUMN_TOKEN]);
	row->owner = isnull[COLUMN_OWNER] ? NULL :
		DatumGetTextPP(values[COLUMN_OWNER]);
	/* Nobody reads it here, and it may be stored out of line. */
	row->data = isnull[COLUMN_DATA] ? NULL :
		(text *) DatumGetPointer(values[COLUMN_DATA]);
	row->incarnation = isnull[COLUMN_INCARNATION] ? 0 :
		DatumGetTimestampTz(values[COLUMN_INCARNATION]);
}

void
lock_shape_write(const LockRow *row, TupleTableSlot *slot)
{
	Datum	   *values = slot->tts_values;
	bool	   *isnull = slot->tts_isnull;

	memset(isnull, false, NUM_COLUMNS * sizeof(bool));
	for (int i = NUM_COLUMNS; i < slot->tts_tupleDescriptor->natts; i++)
		isnull[i] = true;		/* dropped */
	values[COLUMN_FENCE] = Int64GetDatum(row->fence);
	values[COLUMN_ACQUIRED_AT] = TimestampTzGetDatum(row->acquired_at);
	values[COLUMN_EXPIRES_AT] = TimestampTzGetDatum(row->expires_at);
	values[COLUMN_TTL] = Int64GetDatum(row->ttl);
	values[COLUMN_PID] = Int32GetDatum(row->pid);
	values[COLUMN_ROLE] = ObjectIdGetDatum(row->role);
	values[COLUMN_PERMIT] = Int16GetDatum(row->permit);
	values[COLUMN_SCOPE] = CharGetDatum((char) row->scope);
	values[COLUMN_KEY] = PointerGetDatum(row->key);
	values[COLUMN_TOKEN] = PointerGetDatum(row->token);
	isnull[COLUMN_TOKEN] = (row->token == NULL);
	values[COLUMN_OWNER] = PointerGetDatum(row->owner);
	isnull[COLUMN_OWNER] = (row->owner == NULL);
	values[COLUMN_DATA] = PointerGetDatum(row->data);
	isnull[COLUMN_DATA] = (row->data == NULL);
	values[COLUMN_INCARNATION] = TimestampTzGetDatum(row->incarnation);
	isnull[COLUMN_INCARNATION] = (row->incarnation == 0);
	ExecStoreVirtualTuple(slot);
}
