/*-------------------------------------------------------------------------
 *
 * mirror_ask.h
 *	  A session asks the worker to compare table and Redis.
 *
 * By a queue in dynamic shared memory, which the session makes, with its handle
 * in the slot.  What comes through it are messages: each is a difference, and
 * the last one says that there are no more.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_MIRROR_ASK_H
#define DISTLOCK_MIRROR_ASK_H

#include "lib/stringinfo.h"

#include "shared.h"

/* How a message begins. */
#define ANSWER_DIFFERENCE 'd'	/* then what follows in a MirrorAnswer */
#define ANSWER_END 'e'
#define ANSWER_NO_MIRROR 'n'

typedef struct MirrorAnswer
{
	const char *mirror;
	const char *problem;
	const char *key;			/* NULL when it is not known */
	int			key_length;
	const char *redis_key;		/* NULL when the problem is not one of a key */
	int			redis_length;
} MirrorAnswer;

/* Is called for each difference; may raise errors. */
typedef void (*MirrorAnswerHandler) (const MirrorAnswer *answer, void *arg);

/*
 * Ask, and wait until the answer is complete.  Raises 55000 when there is no
 * worker, no mirror, or no complete answer after so many microseconds.
 */
extern void mirror_ask(int64 timeout, MirrorAnswerHandler handler, void *arg);

/* A message of a difference, for who answers. */
extern void mirror_ask_pack(StringInfo message, const MirrorAnswer *answer);

#endif							/* DISTLOCK_MIRROR_ASK_H */
