/*-------------------------------------------------------------------------
 *
 * mirror_parts.h
 *	  What a mirror consists of.
 *
 * For mirror_life.c, which lives its life, mirror_answer.c, mirror_read.c, which reads the table and
 * sends what has changed, and mirror_compare.c, which compares; and for nobody
 * else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_MIRROR_PARTS_H
#define DISTLOCK_MIRROR_PARTS_H

#include "mirror.h"
#include "mirror_cache.h"
#include "mirror_comparison.h"
#include "mirror_script.h"
#include "mirror_trouble.h"
#include "page_marks.h"
#include "redis.h"

typedef enum MirrorPhase
{
	PHASE_RESTING,				/* not connected, until next_try */
	PHASE_OPENING,				/* the way to the first command */
	PHASE_GREETING,				/* password, database, scripts */
	PHASE_CLAIMING,
	PHASE_SENDING,				/* everything, to reconcile */
	PHASE_SWEEPING,
	PHASE_FOLLOWING
} MirrorPhase;

/* What a command was for. */
typedef enum TagKind
{
	TAG_PASSWORD,
	TAG_DATABASE,
	TAG_SCRIPT,
	TAG_CLAIM,
	TAG_WRITE,
	TAG_SWEEP,
	TAG_ASK_CLAIM,
	TAG_ASK_KEYS,
	TAG_COMPARE,
	TAG_LIST
} TagKind;

/* The longest time to live, 300 years: Redis adds it to the time of day. */
#define LONGEST_MS (INT64CONST(300) * 366 * SECS_PER_DAY * 1000)

/* A Redis key in a command. */
typedef struct TaggedKey
{
	uint64		key_hash;
	BlockNumber page;
	struct ComparedLock *lock;	/* of TAG_COMPARE */
} TaggedKey;

typedef struct Tag
{
	TagKind		kind;
	int			n;				/* of TAG_SCRIPT: which */
	TimestampTz since;			/* of TAG_WRITE: the oldest change in it */
	TaggedKey	keys[FLEXIBLE_ARRAY_MEMBER];
} Tag;

struct Mirror
{
	RedisAddress address;
	MirrorStatus *status;
	char	   *database;
	char	   *template;
	char	   *book;
	int			copies;			/* Redis keys of a lock */
	RedisConnection *connection;
	MirrorPhase phase;
	MirrorState logged;			/* the state in the log's last line */
	int64		next_try;
	int64		pause;
	int			attempts;		/* to connect, so far */
	char		claim[CLAIM_LENGTH + 1];
	char		scripts[NUM_SCRIPTS][41];	/* their digests */
	bool		claim_lost;		/* another has to be made at once */
	bool		claim_is_old;	/* Redis has no room for a new one */
	bool		is_new;			/* the connection has claimed nothing yet */
	bool		was_following;	/* before it claimed */
	bool		one_by_one;		/* a call for each lock */
	int64		writes_sent;	/* calls of SCRIPT_WRITE, and their answers */
	int64		writes_answered;
	int64		writes_awaited; /* so many answers, before it is swept */
	int			comparing;		/* calls of SCRIPT_COMPARE under way */
	MirrorCache *cache;

	/* Pages to be read: because of changes; to reconcile; to compare. */
	PageMarks	changed;
	PageMarks	all;
	PageMarks	compared;
	LaterMarks	compared_again;

	int			next_word;		/* of these marks, where to go on reading */

	/* How often "all" has been added to since all was read; see settle(). */
	int			rounds;

	/* Pages to be read again later. */
	LaterMarks	at_work;		/* a transaction is at work there */
	TransactionId prepared;		/* the oldest of those of which nobody will
								 * say that they commit */
	LaterMarks	refused;		/* a lock was refused there */
	LaterMarks	sessions;		/* of locks that are to be renewed */

	int64		claimed_at;		/* reconciling began */
	bool		reconcile;		/* without waiting for the next time */
	bool		sweep_owed;		/* it was not done, as something was refused */
	bool		gap;			/* rows have gone before they were read */
	int64		ask_due;
	int64		look_due;		/* is the table another file? */
	bool		look;			/* it is time for that */
	int64		read_due;		/* the table could not be read */

	/*
	 * For the lag: of what has not been read, not been answered, is being
	 * read.
	 */
	TimestampTz changed_since;
	TimestampTz writing_since;
	TimestampTz reading_since;

	MirrorTroubles troubles;
	Oid			storage;		/* the table's file */
	MirrorComparison *comparison;
};

/*
 * Begin to call a script with the book, so many more keys, and so many
 * arguments; add these, and end it with a tag.
 */
extern void mirror_begin_call(Mirror *mirror, MirrorScript script, int keys,
							  int arguments);

/* A tag with so many keys. */
extern Tag *mirror_tag(TagKind kind, int keys);

/*
 * mirror_report.c: the state as it is shown, and in the log; an error, which is
 * to be reported before the state that it leads to.
 */
extern void mirror_report_state(Mirror *mirror, MirrorState state);
extern void mirror_report_error(Mirror *mirror, const char *reason);

/* mirror_answer.c: an answer, see RedisHandler. */
extern bool mirror_answer(void *arg, void *tag, RedisReply *reply);

/*
 * mirror_life.c: delete what is not there any more, a part of the book; all is
 * done but to follow; the comparison cannot go on.
 */
extern void mirror_sweep(Mirror *mirror, const char *cursor);
extern void mirror_follow(Mirror *mirror);
extern void mirror_end_comparison(Mirror *mirror);

/* mirror_read.c: read some pages; true when there are more. */
extern bool mirror_read(Mirror *mirror);

/* mirror_compare.c: the answers to what was asked for a comparison. */
extern bool mirror_compare_answer(Mirror *mirror, Tag *tag,
								  RedisReply *reply);

/* What comes next of a comparison, if it is time; is it? */
extern void mirror_compare_step(Mirror *mirror);
extern bool mirror_compare_has_more(const Mirror *mirror);

#endif							/* DISTLOCK_MIRROR_PARTS_H */
