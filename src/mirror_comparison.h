/*-------------------------------------------------------------------------
 *
 * mirror_comparison.h
 *	  Comparing the table with what is in Redis.
 *
 * Done by the mirror itself, page by page: what is new on a page is sent first,
 * then Redis is asked for all that should be there of it.  Nobody else writes
 * these keys, and commands are answered in their order, so that a difference is
 * one, and not a change under way.
 *
 * Of a lock about which the mirror's cache knows nothing, it cannot be said what
 * Redis was told last.  It is not sent, lest a difference be undone before it is
 * seen; if there is one, the page is compared again, and only for such locks,
 * when whatever was under way has long been sent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_MIRROR_COMPARISON_H
#define DISTLOCK_MIRROR_COMPARISON_H

#include "distlock.h"
#include "utils/hsearch.h"

struct Mirror;

/* Told of each difference; the key is NULL when it is not known. */
typedef void (*MirrorDifference) (void *arg, struct Mirror *mirror,
								  const char *key, int key_length,
								  const char *redis_key, int redis_length,
								  const char *problem);

typedef struct MirrorComparison
{
	MirrorDifference difference;
	void	   *arg;
	MemoryContext context;		/* of its own, to be deleted with it */
	HTAB	   *expected;		/* hashes of what is or was to be in Redis */
	HTAB	   *doubtful;		/* of the keys to be compared again */
	int64		differences;
	bool		again;			/* only what is doubtful */
	bool		settling;		/* the table is done, but for what has moved */
	bool		listing;		/* that too, but the book is not */
	TimestampTz began_at;
	bool		done;
	bool		failed;			/* the connection was lost */
} MirrorComparison;

extern MirrorComparison *mirror_comparison_new(MirrorDifference difference,
											   void *arg);
extern void mirror_comparison_free(MirrorComparison *comparison);

/* A lock that is compared; in the context of the comparison. */
typedef struct ComparedLock
{
	TimestampTz until;			/* DT_NOEND while a session holds it */
	int64		ms;				/* the time left when it was read */
	bool		doubtful;		/* to be compared again if it differs */
	int			key_length;
	int			redis_length;
	char		keys[FLEXIBLE_ARRAY_MEMBER];	/* both, one after the other */
} ComparedLock;

extern ComparedLock *mirror_comparison_add(MirrorComparison *comparison,
										   const text *key,
										   const char *redis_key,
										   int redis_length,
										   TimestampTz until, int64 ms,
										   bool doubtful);

/* This lock is to be compared again; is it? */
extern void mirror_comparison_doubt(MirrorComparison *comparison,
									uint64 key_hash);
extern bool mirror_comparison_doubts(const MirrorComparison *comparison,
									 uint64 key_hash);

/* This is in Redis, or about to be; is, or was it? */
extern void mirror_comparison_expect(MirrorComparison *comparison,
									 const char *redis_key, int redis_length);
extern bool mirror_comparison_expects(const MirrorComparison *comparison,
									  const char *redis_key,
									  int redis_length);

#endif							/* DISTLOCK_MIRROR_COMPARISON_H */
