/*-------------------------------------------------------------------------
 *
 * mirror_check.c
 *	  The worker answers a session that asks for a check of the mirrors.
 *
 * A check goes on until all comparisons are done, also when nobody wants to know
 * any more: what was asked of Redis will be answered.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "storage/dsm.h"
#include "storage/proc.h"
#include "storage/shm_mq.h"
#include "utils/memutils.h"

#include "fail_point.h"
#include "mirror_ask.h"
#include "mirror_check.h"
#include "mirror_comparison.h"

typedef struct MirrorCheck
{
	bool		begun;
	bool		finished;
	MirrorComparison *comparison;
} MirrorCheck;

/* The request that is being answered, or was last; 0: none. */
static dsm_handle current = 0;
static bool under_way = false;
static bool complete = false;	/* the last message is in the outbox */
static MirrorCheck checks[MAX_MIRRORS];

/* NULL when nobody wants to know. */
static dsm_segment *segment = NULL;
static shm_mq_handle *queue = NULL;

/* Messages (StringInfo), in a context of their own. */
static MemoryContext context = NULL;
static List *outbox = NIL;
static int	num_sent = 0;		/* of those in the outbox */

static void begin(dsm_handle handle, int num_mirrors);
static bool step(Mirror *mirror, MirrorCheck *check);
static void put_not_connected(Mirror *mirror);
static void put_difference(void *arg, Mirror *mirror, const char *key,
						   int key_length, const char *redis_key,
						   int redis_length, const char *problem);
static void put(const MirrorAnswer *answer);
static void put_char(char kind);
static StringInfo new_message(void);
static void pump(void);
static void stop_answering(void);

void
mirror_check_step(DatabaseSlot *slot, Mirror *const *mirrors, int num_mirrors)
{
	dsm_handle	asked;
	bool		all = true;

	if (!under_way)
	{
		/* One that has been answered stays until the session has seen it. */
		shared_lock();
		asked = slot->check;
		shared_unlock();
		if (asked == current || asked == 0)
		{
			current = asked;
			return;
		}
		begin(asked, num_mirrors);
	}

	for (int i = 0; i < num_mirrors; i++)
		all = step(mirrors[i], &checks[i]) && all;
	if (all && !complete)
	{
		put_char(ANSWER_END);
		complete = true;
	}
	pump();
	if (complete && num_sent == list_length(outbox))
	{
		stop_answering();
		under_way = false;
	}
}

void
mirror_check_stop(void)
{
	for (int i = 0; i < MAX_MIRRORS; i++)
	{
		if (checks[i].comparison != NULL)
			mirror_comparison_free(checks[i].comparison);
		checks[i].comparison = NULL;
	}
	stop_answering();
	under_way = false;
}

static void
begin(dsm_handle handle, int num_mirrors)
{
	current = handle;
	under_way = true;
	complete = false;
	memset(checks, 0, sizeof(checks));
	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext,
										"distlock mirror answers",
										ALLOCSET_DEFAULT_SIZES);

	/* The session may have given up. */
	segment = dsm_attach(handle);
	if (segment == NULL)
		return;
	dsm_pin_mapping(segment);
	FAIL_POINT("mirror_check_begun");
	if (shm_mq_get_sender(dsm_segment_address(segment)) != NULL)
	{
		/* A worker before this one has begun to answer; it is told of that. */
		stop_answering();
		return;
	}
	shm_mq_set_sender(dsm_segment_address(segment), MyProc);
	queue = shm_mq_attach(dsm_segment_address(segment), segment, NULL);
	if (num_mirrors == 0)
		put_char(ANSWER_NO_MIRROR);
}

/*
 * True when this mirror is done.
 */
static bool
step(Mirror *mirror, MirrorCheck *check)
{
	MirrorState state = mirror_status(mirror)->state;

	if (check->finished)
		return true;
	if (check->comparison == NULL)
	{
		if (state == MIRROR_DISCONNECTED || state == MIRROR_CONNECTING)
		{
			put_not_connected(mirror);
			check->finished = true;
		}
		else if (!check->begun)
		{
			check->comparison = mirror_comparison_new(put_difference, NULL);
			check->begun = mirror_compare(mirror, check->comparison);
			if (!check->begun)
			{
				/* It is reconciling: when that is done. */
				mirror_comparison_free(check->comparison);
				check->comparison = NULL;
			}
		}
	}
	else if (check->comparison->done)
	{
		if (check->comparison->failed)
			put_not_connected(mirror);
		mirror_comparison_free(check->comparison);
		check->comparison = NULL;
		check->finished = true;
	}
	return check->finished;
}

static void
put_not_connected(Mirror *mirror)
{
	MirrorAnswer answer = {mirror_status(mirror)->name, "not connected"};

	put(&answer);
}

static void
put_difference(void *arg, Mirror *mirror, const char *key, int key_length,
			   const char *redis_key, int redis_length, const char *problem)
{
	MirrorAnswer answer = {mirror_status(mirror)->name, problem, key,
	key_length, redis_key, redis_length};

	put(&answer);
}

static void
put(const MirrorAnswer *answer)
{
	StringInfo	message = new_message();

	if (message != NULL)
		mirror_ask_pack(message, answer);
}

static void
put_char(char kind)
{
	StringInfo	message = new_message();

	if (message != NULL)
		appendStringInfoChar(message, kind);
}

/*
 * An empty one in the outbox; NULL when nobody wants to know.
 */
static StringInfo
new_message(void)
{
	MemoryContext saved;
	StringInfo	message;

	if (segment == NULL)
		return NULL;
	saved = MemoryContextSwitchTo(context);
	message = makeStringInfo();
	outbox = lappend(outbox, message);
	MemoryContextSwitchTo(saved);
	return message;
}

/*
 * Send what there is room for; the session wakes us when there is more room.
 */
static void
pump(void)
{
	for (; num_sent < list_length(outbox); num_sent++)
	{
		StringInfo	message = list_nth(outbox, num_sent);

		switch (shm_mq_send(queue, message->len, message->data, true, true))
		{
			case SHM_MQ_SUCCESS:
				pfree(message->data);
				break;
			case SHM_MQ_WOULD_BLOCK:
				return;
			case SHM_MQ_DETACHED:
				stop_answering();
				return;
		}
	}
}

static void
stop_answering(void)
{
	if (queue != NULL)
		shm_mq_detach(queue);
	queue = NULL;
	if (segment != NULL)
		dsm_detach(segment);
	segment = NULL;
	outbox = NIL;
	num_sent = 0;
	if (context != NULL)
		MemoryContextReset(context);
}
