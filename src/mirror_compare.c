/*-------------------------------------------------------------------------
 *
 * mirror_compare.c
 *	  Comparing the table with what is in Redis.
 *
 * First the table, page by page (mirror_read.c), then the book: what is in Redis
 * though it neither is nor was expected to be since the comparison began.  What
 * is released meanwhile stays expected, since its deletion may come after the
 * question.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "mirror_parts.h"
#include "steady_clock.h"

/* So much longer than the lock a key may live, in milliseconds. */
#define MAX_MS_TOO_LONG 1000

/* No comparison takes that long, unless Redis has no end of keys. */
#define LONGEST (10 * SECS_PER_MINUTE * USECS_PER_SEC)

/* When a page is compared again. */
#define LOOK_AGAIN (USECS_PER_SEC / 5)

static void list(Mirror *mirror, const char *cursor);
static const char *find_problem(const ComparedLock *lock, const char *answer);
static void report(Mirror *mirror, const ComparedLock *lock,
				   const char *problem);
static bool answer_list(Mirror *mirror, RedisReply *reply);

bool
mirror_compare(Mirror *mirror, MirrorComparison *comparison)
{
	if (mirror->phase != PHASE_FOLLOWING || mirror->claim_lost ||
		mirror->comparison != NULL)
		return false;
	mirror->comparison = comparison;
	page_marks_set_all(&mirror->compared);
	later_marks_clear(&mirror->compared_again);
	return true;
}

void
mirror_compare_step(Mirror *mirror)
{
	MirrorComparison *comparison = mirror->comparison;

	if (comparison == NULL)
		return;
	if (GetCurrentTimestamp() > comparison->began_at + LONGEST)
	{
		redis_fail(mirror->connection, "a comparison did not come to its end");
		return;
	}
	if (!mirror_compare_has_more(mirror))
		return;
	if (mirror->compared_again.due != NEVER)
	{
		comparison->again = true;
		later_marks_move(&mirror->compared_again, steady_now(),
						 &mirror->compared);
	}
	else if (!comparison->settling)
	{
		/* What has moved is sent, and expected then, before the book is read. */
		comparison->settling = true;
		mirror->rounds = 0;
	}
	else
	{
		comparison->listing = true;
		list(mirror, "0");
	}
}

bool
mirror_compare_has_more(const Mirror *mirror)
{
	return mirror->comparison != NULL && !mirror->comparison->listing &&
		!page_marks_any(&mirror->compared) && mirror->comparing == 0 &&
		(mirror->compared_again.due == NEVER ||
		 mirror->compared_again.due <= steady_now());
}

bool
mirror_compare_answer(Mirror *mirror, Tag *tag, RedisReply *reply)
{
	if (mirror->comparison == NULL)
		return true;
	if (tag->kind == TAG_LIST)
		return answer_list(mirror, reply);

	if (redis_type(reply) != REDIS_ARRAY || redis_elements(reply) != tag->n)
		return false;
	for (int i = 0; i < tag->n; i++)
	{
		ComparedLock *lock = tag->keys[i].lock;
		const char *problem;

		if (redis_type(redis_element(reply, i)) != REDIS_TEXT ||
			redis_length(redis_element(reply, i)) < 2)
			return false;
		problem = find_problem(lock, redis_text(redis_element(reply, i)));
		if (problem != NULL && lock->doubtful)
		{
			mirror_comparison_doubt(mirror->comparison, tag->keys[i].key_hash);
			later_marks_set(&mirror->compared_again, tag->keys[i].page,
							steady_now() + LOOK_AGAIN);
		}
		else if (problem != NULL)
			report(mirror, lock, problem);
		pfree(lock);
	}
	return true;
}

/*
 * Ask for the part of the book that the cursor stands for.
 */
static void
list(Mirror *mirror, const char *cursor)
{
	mirror_begin_call(mirror, SCRIPT_LIST, 0, 1);
	redis_add_text(mirror->connection, cursor);
	redis_end(mirror->connection, mirror_tag(TAG_LIST, 0));
}

/*
 * NULL for none.
 */
static const char *
find_problem(const ComparedLock *lock, const char *answer)
{
	int64		ms = strtoll(answer + 1, NULL, 10);
	TimestampTz now = GetCurrentTimestamp();

	switch (answer[0])
	{
		case COMPARE_DIFFERENT:
			return "different";
		case COMPARE_MISSING:
			/* It may have gone when its time was over. */
			return lock->until > now ? "missing" : NULL;
		case COMPARE_EQUAL:
			break;
		default:
			return "foreign";
	}

	/* That was so a moment before now. */
	if (ms < 0 || ms > lock->ms + MAX_MS_TOO_LONG)
		return "expires late";
	if (lock->until != DT_NOEND && lock->ms < LONGEST_MS &&
		now + ms * 1000 < lock->until)
		return "expires early";
	return NULL;
}

static void
report(Mirror *mirror, const ComparedLock *lock, const char *problem)
{
	MirrorComparison *comparison = mirror->comparison;

	comparison->differences++;
	comparison->difference(comparison->arg, mirror, lock->keys,
						   lock->key_length, lock->keys + lock->key_length,
						   lock->redis_length, problem);
}

static bool
answer_list(Mirror *mirror, RedisReply *reply)
{
	MirrorComparison *comparison = mirror->comparison;
	RedisReply *cursor;
	RedisReply *keys;

	if (redis_type(reply) != REDIS_ARRAY || redis_elements(reply) != 2)
		return false;
	cursor = redis_element(reply, 0);
	keys = redis_element(reply, 1);
	if (redis_type(cursor) != REDIS_TEXT || redis_length(cursor) > MAX_CURSOR ||
		redis_type(keys) != REDIS_ARRAY)
		return false;
	for (int i = 0; i < redis_elements(keys); i++)
	{
		RedisReply *key = redis_element(keys, i);

		if (redis_type(key) != REDIS_TEXT)
			return false;
		if (mirror_comparison_expects(comparison, redis_text(key), redis_length(key)))
			continue;
		comparison->differences++;
		comparison->difference(comparison->arg, mirror, NULL, 0,
							   redis_text(key), redis_length(key), "surplus");
	}

	if (strcmp(redis_text(cursor), "0") != 0)
	{
		list(mirror, redis_text(cursor));
		return true;
	}
	if (comparison->differences > 0)
		mirror->reconcile = true;
	comparison->done = true;
	mirror->comparison = NULL;
	return true;
}
