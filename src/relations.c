/*-------------------------------------------------------------------------
 *
 * relations.c
 *	  Where the extension's relations are.
 *
 * A relation counts as ours when it belongs to the extension: a table of the
 * same name in a schema of the same name, made by somebody else, is not taken
 * for it.  The answers are kept until the relation cache says that one of the
 * relations has changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "relations.h"

static const char *const relation_names[NUM_RELATIONS] = {
	[REL_LOCK] = "lock",
	[REL_FENCE_SEQ] = "fence_seq",
	[REL_LIMIT_SEQ] = "limit_seq",
	[REL_START_SEQ] = "start_seq",
	[REL_EPOCH_SEQ] = "epoch_seq",
	[REL_INCARNATION_SEQ] = "incarnation_seq",
};

static Oid	relation_oids[NUM_RELATIONS];

static void forget(Datum arg, Oid relid);

void
relations_init(void)
{
	CacheRegisterRelcacheCallback(forget, (Datum) 0);
}

Oid
relations_oid(DistlockRelation which)
{
	Oid			oid = relations_find(which);

	if (!OidIsValid(oid))
		relations_error_missing();
	return oid;
}

Oid
relations_find(DistlockRelation which)
{
	Oid			extension;
	Oid			schema;
	Oid			oid;

	if (OidIsValid(relation_oids[which]))
		return relation_oids[which];

	extension = get_extension_oid("distlock", true);
	schema = get_namespace_oid("distlock", true);
	if (!OidIsValid(extension) || !OidIsValid(schema))
		return InvalidOid;
	oid = get_relname_relid(relation_names[which], schema);
	if (!OidIsValid(oid) ||
		getExtensionOfObject(RelationRelationId, oid) != extension)
		return InvalidOid;

	relation_oids[which] = oid;
	return oid;
}

void
relations_error_missing(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("extension \"distlock\" is not installed in this database"),
			 errhint("Run CREATE EXTENSION distlock.")));
}

bool
relations_indexes_alike(Oid index, Oid other)
{
	Relation	a = index_open(index, AccessShareLock);
	Relation	b = index_open(other, AccessShareLock);
	bool		alike;

	alike = a->rd_rel->relam == b->rd_rel->relam &&
		a->rd_index->indnatts == b->rd_index->indnatts &&
		a->rd_index->indnkeyatts == b->rd_index->indnkeyatts &&
		memcmp(a->rd_index->indkey.values, b->rd_index->indkey.values,
			   a->rd_index->indnatts * sizeof(int16)) == 0 &&
		RelationGetIndexExpressions(b) == NIL &&
		RelationGetIndexPredicate(b) == NIL;
	index_close(b, AccessShareLock);
	index_close(a, AccessShareLock);
	return alike;
}

static void
forget(Datum arg, Oid relid)
{
	for (int i = 0; i < NUM_RELATIONS; i++)
	{
		if (!OidIsValid(relid) || relation_oids[i] == relid)
			relation_oids[i] = InvalidOid;
	}
}
