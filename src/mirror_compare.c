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

/* So much longer than the lock a key may live, in milliseconds. */
#define MAX_MS_TOO_LONG 1000

static void compare_key(Mirror *mirror, const ComparedLock *lock,
						const char *answer);
static void report(Mirror *mirror, const ComparedLock *lock,
				   const char *problem);
static bool answer_list(Mirror *mirror, RedisReply *reply);

bool
mirror_compare(Mirror *mirror, MirrorComparison *comparison)
{
	if (mirror->phase != PHASE_FOLLOWING || mirror->comparison != NULL)
		return false;
	mirror->comparison = comparison;
	page_marks_set_all(&mirror->compared);
	return true;
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
		if (redis_type(redis_element(reply, i)) != REDIS_TEXT)
			return false;
		compare_key(mirror, tag->keys[i].lock,
					redis_text(redis_element(reply, i)));
		pfree(tag->keys[i].lock);
	}
	return true;
}

/*
 * Ask for the part of the book that the cursor stands for.
 */
void
mirror_compare_list(Mirror *mirror, const char *cursor)
{
	RedisConnection *connection = mirror->connection;

	redis_begin(connection, 5);
	redis_add_text(connection, "EVALSHA");
	redis_add_text(connection, mirror->scripts[SCRIPT_LIST]);
	redis_add_text(connection, "1");
	redis_add_text(connection, mirror->book);
	redis_add_text(connection, cursor);
	redis_end(connection, mirror_tag(TAG_LIST, 0));
}

static void
compare_key(Mirror *mirror, const ComparedLock *lock, const char *answer)
{
	int64		ms = strtoll(answer + 1, NULL, 10);
	TimestampTz now = GetCurrentTimestamp();

	switch (answer[0])
	{
		case COMPARE_FOREIGN:
			report(mirror, lock, "foreign");
			return;
		case COMPARE_DIFFERENT:
			report(mirror, lock, "different");
			return;
		case COMPARE_MISSING:
			/* It may have gone when its time was over. */
			if (lock->until > now)
				report(mirror, lock, "missing");
			return;
		case COMPARE_EQUAL:
			break;
	}

	/* That was so a moment before now. */
	if (ms < 0 || ms > lock->ms + MAX_MS_TOO_LONG)
		report(mirror, lock, "expires late");
	else if (lock->until != DT_NOEND && now + ms * 1000 < lock->until)
		report(mirror, lock, "expires early");
}

static void
report(Mirror *mirror, const ComparedLock *lock, const char *problem)
{
	MirrorComparison *comparison = mirror->comparison;

	comparison->differences++;
	comparison->difference(comparison->arg, mirror, lock->text,
						   lock->key_length, lock->text +lock->key_length,
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
	if (redis_type(cursor) != REDIS_TEXT || redis_type(keys) != REDIS_ARRAY)
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
		mirror_compare_list(mirror, redis_text(cursor));
		return true;
	}
	if (comparison->differences > 0)
		mirror->reconcile = true;
	comparison->done = true;
	mirror->comparison = NULL;
	return true;
}
