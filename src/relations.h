/*-------------------------------------------------------------------------
 *
 * relations.h
 *	  Where the extension's relations are.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_RELATIONS_H
#define DISTLOCK_RELATIONS_H

#include "compat.h"

typedef enum DistlockRelation
{
	REL_LOCK,
	REL_FENCE_SEQ,
	REL_LIMIT_SEQ,
	REL_START_SEQ,
	REL_EPOCH_SEQ,
	REL_INCARNATION_SEQ
} DistlockRelation;

#define NUM_RELATIONS (REL_INCARNATION_SEQ + 1)

/* Raises 55000 when this database does not have the extension. */
extern Oid	relations_oid(DistlockRelation which);

/* The same, but InvalidOid then. */
extern Oid	relations_find(DistlockRelation which);

/* 55000: the extension, or a part of it, is not there (any more). */
pg_noreturn extern void relations_error_missing(void);

/* Do two indexes have the same columns, and nothing but columns? */
extern bool relations_indexes_alike(Oid index, Oid other);

/* Call once when the library is loaded. */
extern void relations_init(void);

#endif							/* DISTLOCK_RELATIONS_H */
