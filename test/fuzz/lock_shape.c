/*-------------------------------------------------------------------------
 *
 * lock_shape.c
 *	  Fuzzes what the table of locks may look like, and its rows.
 *
 * sources: lock_shape.c
 * lines: 95
 *
 * A table is taken if and only if it is as the extension makes it, but for columns
 * that were dropped since.  A row is the same after having been a tuple.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "nodes/pg_list.h"
#include "utils/inval.h"
#include "utils/rel.h"

#include "compat.h"
#include "lock_shape.h"
#include "relations.h"

#define MAX_COLUMNS (NUM_COLUMNS + 4)
#define PRIMARY_KEY 20001

static const struct
{
	const char *name;
	Oid			type;
}			right[NUM_COLUMNS] = {
	{"fence", INT8OID}, {"acquired_at", TIMESTAMPTZOID},
	{"expires_at", TIMESTAMPTZOID}, {"ttl", INT8OID}, {"pid", INT4OID},
	{"role", OIDOID}, {"permit", INT2OID}, {"scope", CHAROID},
	{"key", TEXTOID}, {"token", TEXTOID}, {"owner", TEXTOID},
	{"data", TEXTOID}, {"incarnation", TIMESTAMPTZOID},
};

static TableAmRoutine heap;
static TableAmRoutine other;
static Oid	primary_key;
static int	num_indexes;
static bool alike;
static RelcacheCallbackFunction forget = NULL;

static TupleDesc make_descriptor(FuzzInput *input, bool *is_right);
static void try_table(FuzzInput *input);
static void try_row(FuzzInput *input);

/* ------------------------------------------------------ what it calls -- */

const TableAmRoutine *
GetHeapamTableAmRoutine(void)
{
	return &heap;
}

Oid
RelationGetPrimaryKeyIndex(Relation table
#if PG_VERSION_NUM >= 180000
						   ,bool deferrable_ok
#endif
)
{
	return primary_key;
}

List *
RelationGetIndexList(Relation table)
{
	List	   *list = NIL;

	for (int i = 0; i < num_indexes; i++)
		list = lappend_oid(list, PRIMARY_KEY + i);
	return list;
}

bool
relations_indexes_alike(Oid index, Oid another)
{
	return alike;
}

void
CacheRegisterRelcacheCallback(RelcacheCallbackFunction function, Datum arg)
{
	forget = function;
}

TupleTableSlot *
ExecStoreVirtualTuple(TupleTableSlot *slot)
{
	slot->tts_nvalid = slot->tts_tupleDescriptor->natts;
	return slot;
}

/* ------------------------------------------------------------------- runs -- */

void
fuzz_one(FuzzInput *input)
{
	if (forget == NULL)
		lock_shape_init();
	if (fuzz_byte(input) & 1)
		try_table(input);
	else
		try_row(input);
}

static void
try_table(FuzzInput *input)
{
	Relation	table = palloc0(sizeof(RelationData));
	bool		is_right = true;
	int			wrong = fuzz_byte(input);

	table->rd_id = 20000;
	table->rd_rel = palloc0(sizeof(FormData_pg_class));
	table->rd_rel->relkind = wrong == 1 ? fuzz_byte(input) : RELKIND_RELATION;
	table->rd_rel->relpersistence = wrong == 2 ? fuzz_byte(input) :
		RELPERSISTENCE_PERMANENT;
	table->rd_tableam = wrong == 3 ? &other : &heap;
	primary_key = wrong == 4 ? InvalidOid : PRIMARY_KEY;
	num_indexes = 1 + fuzz_up_to(input, 2);
	alike = wrong != 5;
	table->rd_att = make_descriptor(input, &is_right);

	is_right = is_right && table->rd_rel->relkind == RELKIND_RELATION &&
		table->rd_rel->relpersistence == RELPERSISTENCE_PERMANENT &&
		wrong != 3 && wrong != 4 && (wrong != 5 || num_indexes == 1);
	fuzz_check(lock_shape_check(table) == is_right);
	/* Remembered, or looked at again, it is the same. */
	fuzz_check(lock_shape_check(table) == is_right);
	if (is_right)
		fuzz_check(lock_shape_has_twin_index() == (num_indexes > 1));
	if (fuzz_byte(input) & 1)
		forget((Datum) 0, 30000);
	fuzz_check(lock_shape_check(table) == is_right);
	forget((Datum) 0, fuzz_byte(input) & 1 ? InvalidOid : 20000);
	fuzz_check(lock_shape_check(table) == is_right);
	forget((Datum) 0, InvalidOid);
}

static TupleDesc
make_descriptor(FuzzInput *input, bool *is_right)
{
	int			natts = NUM_COLUMNS + fuzz_up_to(input, 4);
	TupleDesc	descriptor;

	if (fuzz_up_to(input, 15) == 15)
		natts = fuzz_up_to(input, MAX_COLUMNS);
	descriptor = palloc0(sizeof(struct TupleDescData) +
						 natts * (sizeof(FormData_pg_attribute) + 64));
	descriptor->natts = natts;
	*is_right = natts >= NUM_COLUMNS;
	for (int i = 0; i < natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(descriptor, i);
		int			wrong = fuzz_byte(input);

		attribute->attisdropped = i >= NUM_COLUMNS;
		if (i < NUM_COLUMNS)
		{
			attribute->atttypid = right[i].type;
			strlcpy(NameStr(attribute->attname), right[i].name, NAMEDATALEN);
		}
		if (wrong == 1)
			attribute->attisdropped = !attribute->attisdropped;
		else if (wrong == 2)
			attribute->atttypid = fuzz_byte(input);
		else if (wrong == 3)
		{
			char	   *name = fuzz_string(input);

			strlcpy(NameStr(attribute->attname), name, NAMEDATALEN);
		}
		*is_right = *is_right &&
			attribute->attisdropped == (i >= NUM_COLUMNS) &&
			(i >= NUM_COLUMNS ||
			 (attribute->atttypid == right[i].type &&
			  strcmp(NameStr(attribute->attname), right[i].name) == 0));
	}
	return descriptor;
}

static void
try_row(FuzzInput *input)
{
	LockRow		row = {0};
	LockRow		back;
	TupleTableSlot slot = {0};
	int			has = fuzz_byte(input);
	int			natts = NUM_COLUMNS + fuzz_up_to(input, 4);

	row.fence = fuzz_number(input);
	row.ttl = fuzz_number(input);
	row.acquired_at = fuzz_number(input);
	row.expires_at = fuzz_number(input);
	row.pid = (int32) fuzz_number(input);
	row.role = (Oid) fuzz_number(input);
	row.permit = (int16) fuzz_number(input);
	row.scope = "lst"[fuzz_up_to(input, 2)];
	row.incarnation = has & 1 ? fuzz_number(input) : 0;
	row.key = fuzz_text(input, fuzz_up_to(input, 600));
	row.token = has & 2 ? fuzz_text(input, 32) : NULL;
	row.owner = has & 4 ? fuzz_text(input, fuzz_up_to(input, 256)) : NULL;
	row.data = has & 8 ? fuzz_text(input, fuzz_up_to(input, 4096)) : NULL;

	slot.tts_tupleDescriptor = palloc0(sizeof(struct TupleDescData));
	slot.tts_tupleDescriptor->natts = natts;
	slot.tts_values = palloc(natts * sizeof(Datum));
	slot.tts_isnull = palloc(natts * sizeof(bool));
	lock_shape_write(&row, &slot);
	for (int i = NUM_COLUMNS; i < natts; i++)
		fuzz_check(slot.tts_isnull[i]);
	memset(&back, 0, sizeof(back));
	lock_shape_read(&back, slot.tts_values, slot.tts_isnull);
	fuzz_check(back.fence == row.fence && back.ttl == row.ttl);
	fuzz_check(back.acquired_at == row.acquired_at);
	fuzz_check(back.expires_at == row.expires_at);
	fuzz_check(back.incarnation == row.incarnation);
	fuzz_check(back.pid == row.pid && back.role == row.role);
	fuzz_check(back.permit == row.permit && back.scope == row.scope);
	fuzz_check(back.key == row.key && back.token == row.token);
	fuzz_check(back.owner == row.owner && back.data == row.data);
}
