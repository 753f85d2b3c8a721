/*-------------------------------------------------------------------------
 *
 * mirror_trouble.h
 *	  The locks that Redis has refused, and not taken since.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_MIRROR_TROUBLE_H
#define DISTLOCK_MIRROR_TROUBLE_H

#include "utils/hsearch.h"

typedef struct MirrorTroubles
{
	HTAB	   *locks;			/* by the hashes of their keys */
	int64		conflicts;		/* another program's value is in their place */
	int64		refused;		/* for other reasons */
	bool		refused_anew;	/* one of these, since they are in doubt */
} MirrorTroubles;

extern void mirror_troubles_init(MirrorTroubles *troubles);
extern void mirror_troubles_free(MirrorTroubles *troubles);

/* This one was refused; was written, or has gone. */
extern void mirror_trouble_add(MirrorTroubles *troubles, uint64 key_hash,
							   bool conflict);
extern void mirror_trouble_remove(MirrorTroubles *troubles, uint64 key_hash);

/*
 * Before and after everything is sent anew: those that were not refused again in
 * between are gone.
 */
extern void mirror_troubles_doubt(MirrorTroubles *troubles);
extern void mirror_troubles_settle(MirrorTroubles *troubles);

#endif							/* DISTLOCK_MIRROR_TROUBLE_H */
