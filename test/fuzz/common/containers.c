/*-------------------------------------------------------------------------
 *
 * containers.c
 *	  Lists and hashes: small ones, without any cleverness.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "nodes/pg_list.h"
#include "utils/hsearch.h"

static List *
new_list(void)
{
	List	   *list = palloc0(sizeof(List));

	list->type = T_List;
	return list;
}

List *
lappend(List *list, void *datum)
{
	ListCell   *cells;

	if (list == NIL)
		list = new_list();
	cells = palloc((list->length + 1) * sizeof(ListCell));
	if (list->length > 0)
		memcpy(cells, list->elements, list->length * sizeof(ListCell));
	if (list->elements != NULL)
		pfree(list->elements);
	list->elements = cells;
	list->max_length = list->length + 1;
	list->elements[list->length++].ptr_value = datum;
	return list;
}

List *
lappend_oid(List *list, Oid datum)
{
	list = lappend(list, NULL);
	list->elements[list->length - 1].oid_value = datum;
	list->type = T_OidList;
	return list;
}

void
list_free(List *list)
{
	if (list == NIL)
		return;
	if (list->elements != NULL)
		pfree(list->elements);
	pfree(list);
}

/* ----------------------------------------------------------------- hashes -- */

/* Small ones, searched from one end to the other; what is removed is a hole. */
struct HTAB
{
	HASHCTL		info;
	MemoryContext context;
	char	  **entries;
	int			n;
	int			room;
	int			live;
};

HTAB *
hash_create(const char *tabname, long nelem, const HASHCTL *info, int flags)
{
	HTAB	   *table;

	fuzz_check(flags == (HASH_ELEM | HASH_BLOBS | HASH_CONTEXT));
	table = MemoryContextAllocZero(info->hcxt, sizeof(HTAB));
	table->info = *info;
	table->context = info->hcxt;
	return table;
}

static void
hash_grow(HTAB *table)
{
	char	  **entries;

	table->room = Max(16, 2 * table->room);
	entries = MemoryContextAlloc(table->context, table->room * sizeof(char *));
	if (table->n > 0)
	{
		memcpy(entries, table->entries, table->n * sizeof(char *));
		pfree(table->entries);
	}
	table->entries = entries;
}

void *
hash_search(HTAB *table, const void *key, HASHACTION action, bool *found)
{
	char	   *entry = NULL;
	int			i;

	for (i = 0; i < table->n; i++)
	{
		entry = table->entries[i];
		if (entry != NULL && memcmp(entry, key, table->info.keysize) == 0)
			break;
	}
	if (i == table->n)
		entry = NULL;
	if (found != NULL)
		*found = entry != NULL;
	if (action == HASH_REMOVE && entry != NULL)
	{
		table->entries[i] = NULL;
		table->live--;
		pfree(entry);
	}
	else if (action == HASH_ENTER && entry == NULL)
	{
		if (table->n == table->room)
			hash_grow(table);
		entry = MemoryContextAllocZero(table->context, table->info.entrysize);
		memcpy(entry, key, table->info.keysize);
		table->entries[table->n++] = entry;
		table->live++;
	}
	return entry;
}

long
hash_get_num_entries(HTAB *table)
{
	return table->live;
}

void
hash_seq_init(HASH_SEQ_STATUS *scan, HTAB *table)
{
	scan->hashp = table;
	scan->curBucket = 0;
}

void *
hash_seq_search(HASH_SEQ_STATUS *scan)
{
	HTAB	   *table = scan->hashp;

	while (scan->curBucket < table->n)
	{
		char	   *entry = table->entries[scan->curBucket++];

		if (entry != NULL)
			return entry;
	}
	return NULL;
}

void
hash_destroy(HTAB *table)
{
	for (int i = 0; i < table->n; i++)
	{
		if (table->entries[i] != NULL)
			pfree(table->entries[i]);
	}
	if (table->entries != NULL)
		pfree(table->entries);
	pfree(table);
}
