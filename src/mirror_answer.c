/*-------------------------------------------------------------------------
 *
 * mirror_answer.c
 *	  What Redis answers to a mirror.
 *
 * Nothing is taken for granted: an answer that is not of the kind it should be
 * ends the connection.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "fail_point.h"
#include "mirror_parts.h"
#include "steady_clock.h"

/* What was refused is tried again after that. */
#define RETRY_REFUSED USECS_PER_SEC

static bool answer_error(Mirror *mirror, Tag *tag, const char *text);
static bool answer_script(Mirror *mirror, int script, RedisReply *reply);
static bool answer_claim(Mirror *mirror, RedisReply *reply);
static bool answer_write(Mirror *mirror, Tag *tag, RedisReply *reply);
static void note_written(Mirror *mirror, const TaggedKey *key, char letter);
static bool answer_sweep(Mirror *mirror, RedisReply *reply);
static bool answer_ask(Mirror *mirror, RedisReply *reply);

bool
mirror_answer(void *arg, void *tag_of_command, RedisReply *reply)
{
	Mirror	   *mirror = arg;
	Tag		   *tag = tag_of_command;

	if (tag->kind == TAG_WRITE)
	{
		mirror->writes_answered++;
		mirror->writing_since = 0;
		if (mirror->writes_answered < mirror->writes_sent)
			mirror->writing_since = tag->since;
	}
	if (tag->kind == TAG_COMPARE)
		mirror->comparing--;
	if (redis_type(reply) == REDIS_ERROR)
		return answer_error(mirror, tag, redis_text(reply));
	switch (tag->kind)
	{
		case TAG_PASSWORD:
		case TAG_DATABASE:
			return redis_type(reply) == REDIS_TEXT;
		case TAG_SCRIPT:
			return answer_script(mirror, tag->n, reply);
		case TAG_CLAIM:
			return answer_claim(mirror, reply);
		case TAG_WRITE:
			return answer_write(mirror, tag, reply);
		case TAG_SWEEP:
			return answer_sweep(mirror, reply);
		case TAG_ASK_CLAIM:
			return answer_ask(mirror, reply);
		case TAG_ASK_KEYS:
			if (redis_type(reply) != REDIS_INTEGER)
				return false;
			/* One field of the book is the claim. */
			mirror->status->keys = Max(redis_integer(reply) - 1, 0);
			return true;
		case TAG_COMPARE:
		case TAG_LIST:
			return mirror_compare_answer(mirror, tag, reply);
	}
	return false;
}

static bool
answer_error(Mirror *mirror, Tag *tag, const char *text)
{
	static const char *const what[] = {
		[TAG_PASSWORD] = "the password",
		[TAG_DATABASE] = "the number of the database",
		[TAG_SCRIPT] = "a script",
		[TAG_CLAIM] = "to let this server write",
		[TAG_WRITE] = "to write",
		[TAG_SWEEP] = "to delete",
		[TAG_ASK_CLAIM] = "to read",
		[TAG_ASK_KEYS] = "to read",
		[TAG_COMPARE] = "to read",
		[TAG_LIST] = "to read",
	};

	if (strncmp(text, "LOST", 4) == 0 &&
		(tag->kind == TAG_WRITE || tag->kind == TAG_SWEEP))
	{
		mirror->claim_lost = true;
		return true;
	}
	if (strncmp(text, "NOPERM", 6) == 0 && strstr(text, " key") != NULL &&
		tag->kind == TAG_WRITE)
	{
		/* Perhaps for one of them only. */
		mirror->one_by_one = true;
		mirror_report_error(mirror, text);
		for (int i = 0; i < tag->n; i++)
			note_written(mirror, &tag->keys[i], WRITE_ERROR);
		return true;
	}
	if (strncmp(text, "OCCUPIED", 8) == 0)
		redis_fail(mirror->connection,
				   "another server writes this mirror: take another redis_key, or if it has gone, call advance_fence()");
	else if (strncmp(text, "SUPERSEDED", 10) == 0)
		redis_fail(mirror->connection,
				   tag->kind == TAG_CLAIM ?
				   "superseded by a server with a newer epoch of fences, which advance_fence() would begin here" :
				   "superseded: another worker has begun to write this mirror");
	else
	{
		/* It may quote what it was sent. */
		size_t		length = strlen(text);
		const char *quoted = strstr(text, ", with args");

		if (quoted != NULL)
			length = quoted - text;

		if (tag->kind == TAG_PASSWORD)
			length = strcspn(text, " ");
		redis_fail(mirror->connection, "Redis refused %s: %.*s",
				   what[tag->kind], (int) length, text);
	}
	return false;
}

static bool
answer_script(Mirror *mirror, int script, RedisReply *reply)
{
	size_t		size = sizeof(mirror->scripts[script]);

	if (redis_type(reply) != REDIS_TEXT || redis_length(reply) != size - 1)
		return false;
	strlcpy(mirror->scripts[script], redis_text(reply), size);
	return true;
}

static bool
answer_claim(Mirror *mirror, RedisReply *reply)
{
	RedisReply *granted;
	RedisReply *message;

	if (redis_type(reply) != REDIS_ARRAY || redis_elements(reply) != 2)
		return false;
	granted = redis_element(reply, 0);
	message = redis_element(reply, 1);
	if (redis_type(granted) != REDIS_TEXT || redis_type(message) != REDIS_TEXT ||
		redis_length(granted) != CLAIM_LENGTH)
		return false;
	FAIL_POINT("mirror_claimed");
	memcpy(mirror->claim, redis_text(granted), CLAIM_LENGTH);
	mirror->claim_lost = false;
	mirror->claimed_at = steady_now();
	mirror->claim_is_old = redis_length(message) > 0;
	if (mirror->claim_is_old)
	{
		mirror_report_error(mirror, redis_text(message));
		if (mirror->was_following)
		{
			/* Go on under it. */
			mirror->phase = PHASE_FOLLOWING;
			return true;
		}
	}

	mirror_end_comparison(mirror);
	if (mirror->is_new)
		mirror->status->connections++;
	mirror->is_new = mirror->one_by_one = false;
	mirror->reconcile = mirror->sweep_owed = mirror->gap = false;
	if (mirror->status->state != MIRROR_CONNECTED &&
		mirror->status->state != MIRROR_FAILING)
		mirror_report_state(mirror, MIRROR_RECONCILING);

	mirror_cache_clear(mirror->cache);
	mirror_troubles_doubt(&mirror->troubles);
	page_marks_set_all(&mirror->all);
	page_marks_clear(&mirror->compared);
	later_marks_clear(&mirror->at_work);
	mirror->prepared = InvalidTransactionId;
	later_marks_clear(&mirror->refused);
	later_marks_clear(&mirror->sessions);
	mirror->rounds = 0;
	mirror->phase = PHASE_SENDING;
	return true;
}

static bool
answer_write(Mirror *mirror, Tag *tag, RedisReply *reply)
{
	RedisReply *letters;
	RedisReply *message;

	if (redis_type(reply) != REDIS_ARRAY || redis_elements(reply) != 2)
		return false;
	letters = redis_element(reply, 0);
	message = redis_element(reply, 1);
	if (redis_type(letters) != REDIS_TEXT || redis_type(message) != REDIS_TEXT ||
		redis_length(letters) != tag->n)
		return false;

	FAIL_POINT("mirror_answered");
	/* The worst of the copies of a lock, which stand together. */
	for (int i = 0; i < tag->n;)
	{
		TaggedKey  *key = &tag->keys[i];
		char		worst = WRITE_DONE;

		for (; i < tag->n && tag->keys[i].key_hash == key->key_hash; i++)
		{
			char		letter = redis_text(letters)[i];

			if (letter != WRITE_DONE && worst != WRITE_ERROR)
				worst = letter;
		}
		note_written(mirror, key, worst);
		if (worst == WRITE_ERROR)
			mirror_report_error(mirror, redis_text(message));
		else if (worst == WRITE_OLD)
			mirror_report_error(mirror, "Redis has a newer fence of a lock");
	}
	return true;
}

/*
 * What was refused is sent again later, or sooner if it changes.
 */
static void
note_written(Mirror *mirror, const TaggedKey *key, char letter)
{
	if (letter == WRITE_DONE)
	{
		mirror_trouble_remove(&mirror->troubles, key->key_hash);
		return;
	}
	mirror_trouble_add(&mirror->troubles, key->key_hash,
					   letter == WRITE_CONFLICT);
	mirror_cache_forget(mirror->cache, key->key_hash);
	later_marks_set(&mirror->refused, key->page, steady_now() + RETRY_REFUSED);
}

static bool
answer_sweep(Mirror *mirror, RedisReply *reply)
{
	if (redis_type(reply) != REDIS_TEXT)
		return false;
	/* Claimed anew since? */
	if (mirror->phase != PHASE_SWEEPING)
		return true;
	if (strcmp(redis_text(reply), "0") != 0)
	{
		if (redis_length(reply) > MAX_CURSOR)
			return false;
		mirror_sweep(mirror, redis_text(reply));
		return true;
	}
	FAIL_POINT("mirror_swept");
	mirror_follow(mirror);
	return true;
}

static bool
answer_ask(Mirror *mirror, RedisReply *reply)
{
	if (redis_type(reply) == REDIS_NIL)
		mirror->claim_lost = true;
	else if (redis_type(reply) != REDIS_TEXT)
		return false;
	else if (mirror->phase == PHASE_FOLLOWING &&
			 strcmp(redis_text(reply), mirror->claim) != 0)
	{
		redis_fail(mirror->connection,
				   "superseded: another worker has begun to write this mirror");
		return false;
	}
	return true;
}
