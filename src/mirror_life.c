/*-------------------------------------------------------------------------
 *
 * mirror_life.c
 *	  The life of a mirror: connecting, claiming, reconciling, following.
 *
 * See README.mirror.md.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "fence.h"
#include "mirror_parts.h"
#include "mirror_settings.h"
#include "password_file.h"
#include "redis_key.h"
#include "relations.h"

/* Between two tries to connect: so long, then twice as long, and so on. */
#define SHORTEST_PAUSE (50 * USECS_PER_SEC / 1000)
#define LONGEST_PAUSE USECS_PER_SEC

/* What was refused is tried again after that. */
#define RETRY_REFUSED USECS_PER_SEC

/* When Redis is asked whether the claim is still there. */
#define ASK_EVERY (USECS_PER_SEC / 2)

/* Whether the table is another file (TRUNCATE, VACUUM FULL) is looked at. */
#define LOOK_AT_TABLE (2 * USECS_PER_SEC)

/* No more is read from the table while so many commands wait for an answer. */
#define MAX_IN_FLIGHT 16

static void open_connection(Mirror *mirror);
static void greet(Mirror *mirror);
static void claim(Mirror *mirror);
static void work(Mirror *mirror);
static int64 reconcile_due(const Mirror *mirror);
static bool may_read(const Mirror *mirror);
static bool has_to_read(const Mirror *mirror);
static bool has_more(const Mirror *mirror);
static void sweep(Mirror *mirror, const char *cursor);
static void ask(Mirror *mirror);
static bool answer(void *arg, void *tag, RedisReply *reply);
static bool answer_error(Mirror *mirror, Tag *tag, const char *text);
static bool answer_script(Mirror *mirror, int script, RedisReply *reply);
static bool answer_claim(Mirror *mirror, RedisReply *reply);
static bool answer_write(Mirror *mirror, Tag *tag, RedisReply *reply);
static void note_written(Mirror *mirror, const TaggedKey *key, char letter);
static bool answer_sweep(Mirror *mirror, RedisReply *reply);
static bool answer_ask(Mirror *mirror, RedisReply *reply);
static void show_state(Mirror *mirror);
static void end_comparison(Mirror *mirror);

Mirror *
mirror_new(const RedisAddress *address, MirrorStatus *status,
		   const char *database)
{
	MemoryContext saved = MemoryContextSwitchTo(TopMemoryContext);
	Mirror	   *mirror = palloc0(sizeof(Mirror));
	StringInfoData book;

	mirror->address = *address;
	mirror->status = status;
	mirror->database = pstrdup(database);
	mirror->template = pstrdup(redis_key_template(setting_redis_key));
	mirror->copies = 1;
	if (redis_key_is_indexed(mirror->template))
		mirror->copies = 2 * setting_redis_majority - 1;
	initStringInfo(&book);
	redis_key_append(&book, mirror->template, database, NULL, 0);
	mirror->book = book.data;
	mirror->phase = PHASE_RESTING;
	mirror->logged = MIRROR_CONNECTING;
	mirror->cache = mirror_cache_new();
	mirror_troubles_init(&mirror->troubles);
	MemoryContextSwitchTo(saved);

	memset(status, 0, sizeof(MirrorStatus));
	strlcpy(status->name, address->shown, MIRROR_NAME_SIZE);
	status->state = MIRROR_CONNECTING;
	status->since = status->behind_since = GetCurrentTimestamp();
	return mirror;
}

void
mirror_free(Mirror *mirror)
{
	end_comparison(mirror);
	if (mirror->connection != NULL)
		redis_close(mirror->connection);
	mirror_troubles_free(&mirror->troubles);
	mirror_cache_free(mirror->cache);
	pfree(mirror->book);
	pfree(mirror->template);
	pfree(mirror->database);
	pfree(mirror);
}

const MirrorStatus *
mirror_status(const Mirror *mirror)
{
	return mirror->status;
}

void
mirror_note(Mirror *mirror, const uint32 *marks)
{
	page_marks_add(&mirror->changed, marks);
}

bool
mirror_step(Mirror *mirror)
{
	if (mirror->phase == PHASE_RESTING)
	{
		if (redis_clock() < mirror->next_try)
			return false;
		open_connection(mirror);
		if (mirror->phase == PHASE_RESTING)
			return false;
	}

	if (redis_step(mirror->connection, answer, mirror))
	{
		work(mirror);
		/* Send what that has queued. */
		if (redis_step(mirror->connection, answer, mirror))
		{
			show_state(mirror);
			return mirror->phase >= PHASE_SENDING && has_more(mirror);
		}
	}
	mirror_fail(mirror, redis_error(mirror->connection));
	return false;
}

void
mirror_fail(Mirror *mirror, const char *reason)
{
	mirror_report_error(mirror, reason);
	mirror_report_state(mirror, MIRROR_DISCONNECTED);
	if (mirror->connection != NULL)
		redis_close(mirror->connection);
	mirror->connection = NULL;
	mirror->phase = PHASE_RESTING;
	if (mirror->status->behind_since == 0)
		mirror->status->behind_since = GetCurrentTimestamp();
	end_comparison(mirror);

	mirror->pause = Min(Max(SHORTEST_PAUSE, 2 * mirror->pause), LONGEST_PAUSE);
	mirror->next_try = redis_clock() +
		(int64) (mirror->pause *
				 (1 - pg_prng_double(&pg_global_prng_state) / 2));
}

int64
mirror_due(const Mirror *mirror)
{
	int64		due;

	if (mirror->phase == PHASE_RESTING)
		return mirror->next_try;
	due = redis_deadline(mirror->connection);
	if (mirror->phase < PHASE_SENDING || mirror->claim_lost)
		return due;
	/* With many commands under way, an answer comes first. */
	if (has_to_read(mirror) &&
		redis_in_flight(mirror->connection) < MAX_IN_FLIGHT)
		due = Min(due, mirror->read_due);
	due = Min(due, Min(mirror->at_work.due, mirror->refused.due));
	due = Min(due, Min(mirror->sessions.due, mirror->look_due));
	if (mirror->phase == PHASE_FOLLOWING)
		due = Min(due, mirror->ask_due);
	if (mirror->phase == PHASE_FOLLOWING && mirror->comparison == NULL)
		due = Min(due, reconcile_due(mirror));
	else if (mirror->comparison != NULL && mirror->comparing == 0)
		due = Min(due, mirror->compared_again.due);
	return due;
}

int
mirror_socket(const Mirror *mirror)
{
	return mirror->connection != NULL ? redis_socket(mirror->connection) : -1;
}

uint32
mirror_events(const Mirror *mirror)
{
	return redis_events(mirror->connection);
}

Tag *
mirror_tag(TagKind kind, int keys)
{
	Tag		   *tag = MemoryContextAlloc(TopMemoryContext,
										 offsetof(Tag, keys) +
										 keys * sizeof(TaggedKey));

	tag->kind = kind;
	tag->n = keys;
	return tag;
}

static void
open_connection(Mirror *mirror)
{
	mirror->connection = redis_open(&mirror->address, setting_redis_ca_file,
									setting_redis_timeout);
	mirror->phase = PHASE_OPENING;
	mirror->claim_lost = false;
	mirror->is_new = true;
	mirror->writing = mirror->comparing = 0;
	mirror->read_due = mirror->look_due = 0;
}

/*
 * All at once; the answers come in the same order.
 */
static void
greet(Mirror *mirror)
{
	RedisConnection *connection = mirror->connection;
	const char *user = mirror->address.user;
	char		password[PASSWORD_MAX + 2] = "";
	char		error[256];

	if (setting_redis_password_file[0] != '\0' &&
		!password_file_read(setting_redis_password_file, password, error,
							sizeof(error)))
	{
		redis_fail(connection, "%s", error);
		return;
	}
	if (password[0] != '\0' || user[0] != '\0')
	{
		redis_begin(connection, user[0] != '\0' ? 3 : 2);
		redis_add_text(connection, "AUTH");
		if (user[0] != '\0')
			redis_add_text(connection, user);
		redis_add_text(connection, password);
		redis_end(connection, mirror_tag(TAG_PASSWORD, 0));
		explicit_bzero(password, sizeof(password));
	}
	if (mirror->address.db != 0)
	{
		char		number[16];

		snprintf(number, sizeof(number), "%d", mirror->address.db);
		redis_begin(connection, 2);
		redis_add_text(connection, "SELECT");
		redis_add_text(connection, number);
		redis_end(connection, mirror_tag(TAG_DATABASE, 0));
	}
	for (int i = 0; i < NUM_SCRIPTS; i++)
	{
		Tag		   *tag = mirror_tag(TAG_SCRIPT, 0);

		tag->n = i;
		redis_begin(connection, 3);
		redis_add_text(connection, "SCRIPT");
		redis_add_text(connection, "LOAD");
		redis_add_text(connection, mirror_script(i));
		redis_end(connection, tag);
	}
	mirror->phase = PHASE_GREETING;
}

/*
 * Claim the right to write; everything is to be sent once it is granted.
 */
static void
claim(Mirror *mirror)
{
	RedisConnection *connection = mirror->connection;
	int64		epoch = -1;
	char		number[32];

	StartTransactionCommand();
	if (OidIsValid(relations_find(REL_FENCE_SEQ)))
		epoch = fence_epoch();
	CommitTransactionCommand();
	if (epoch < 0)
	{
		redis_fail(connection, "the extension is not there any more");
		return;
	}

	snprintf(number, sizeof(number), "%0*lld", FENCE_DIGITS, (long long) epoch);
	redis_begin(connection, 5);
	redis_add_text(connection, "EVALSHA");
	redis_add_text(connection, mirror->scripts[SCRIPT_CLAIM]);
	redis_add_text(connection, "1");
	redis_add_text(connection, mirror->book);
	redis_add_text(connection, number);
	redis_end(connection, mirror_tag(TAG_CLAIM, 0));
	mirror->phase = PHASE_CLAIMING;
}

/*
 * Whatever there is to do besides reading answers.
 */
static void
work(Mirror *mirror)
{
	int64		now = redis_clock();

	if (mirror->phase == PHASE_OPENING && redis_is_ready(mirror->connection))
		greet(mirror);
	if (mirror->phase == PHASE_GREETING &&
		redis_in_flight(mirror->connection) == 0)
		claim(mirror);
	if (mirror->phase < PHASE_SENDING)
		return;

	if (mirror->claim_lost)
	{
		/* Nothing more can be written; what is under way is refused. */
		if (redis_in_flight(mirror->connection) > 0)
			return;
		mirror_report_state(mirror, MIRROR_RECONCILING);
		claim(mirror);
		return;
	}
	if (mirror->phase == PHASE_FOLLOWING && mirror->comparison == NULL &&
		now >= reconcile_due(mirror))
	{
		claim(mirror);
		return;
	}

	later_marks_move(&mirror->at_work, now, &mirror->changed);
	later_marks_move(&mirror->refused, now, &mirror->changed);
	later_marks_move(&mirror->sessions, now, &mirror->changed);
	if (mirror->look_due <= now)
	{
		/* A page that is always there. */
		mirror->changed.words[0] |= 1;
		mirror->look_due = now + LOOK_AT_TABLE;
	}

	/*
	 * All pages have been read, at the end of the step before this.  What has
	 * been written by then is marked by now: see mirror_marks.h.
	 */
	if (mirror->phase == PHASE_SENDING && !page_marks_any(&mirror->all))
	{
		page_marks_add(&mirror->all, mirror->changed.words);
		page_marks_add(&mirror->all, mirror->at_work.marks.words);
		mirror->phase = PHASE_SENDING_AGAIN;
	}
	while (may_read(mirror) && has_to_read(mirror) && mirror_read(mirror))
		;
	if (mirror->phase == PHASE_SENDING_AGAIN && !page_marks_any(&mirror->all))
	{
		sweep(mirror, "0");
		mirror->phase = PHASE_SWEEPING;
	}

	mirror_compare_step(mirror);
	if (mirror->phase == PHASE_FOLLOWING && mirror->ask_due <= now)
		ask(mirror);
}

static int64
reconcile_due(const Mirror *mirror)
{
	if (mirror->reconcile)
		return 0;
	return mirror->claimed_at + setting_redis_reconcile * USECS_PER_SEC;
}

static bool
may_read(const Mirror *mirror)
{
	return mirror->phase >= PHASE_SENDING && !mirror->claim_lost &&
		redis_in_flight(mirror->connection) < MAX_IN_FLIGHT &&
		mirror->read_due <= redis_clock();
}

static bool
has_to_read(const Mirror *mirror)
{
	return page_marks_any(&mirror->changed) || page_marks_any(&mirror->all) ||
		page_marks_any(&mirror->compared);
}

/*
 * Is there anything to do that nothing else has to happen for?
 */
static bool
has_more(const Mirror *mirror)
{
	return (may_read(mirror) && has_to_read(mirror)) ||
		(mirror->phase == PHASE_SENDING && !page_marks_any(&mirror->all));
}

static void
sweep(Mirror *mirror, const char *cursor)
{
	RedisConnection *connection = mirror->connection;

	redis_begin(connection, 6);
	redis_add_text(connection, "EVALSHA");
	redis_add_text(connection, mirror->scripts[SCRIPT_SWEEP]);
	redis_add_text(connection, "1");
	redis_add_text(connection, mirror->book);
	redis_add(connection, mirror->claim, CLAIM_LENGTH);
	redis_add_text(connection, cursor);
	redis_end(connection, mirror_tag(TAG_SWEEP, 0));
}

/*
 * Is the claim there, and how many keys are?
 */
static void
ask(Mirror *mirror)
{
	RedisConnection *connection = mirror->connection;

	redis_begin(connection, 3);
	redis_add_text(connection, "HGET");
	redis_add_text(connection, mirror->book);
	redis_add_text(connection, "");
	redis_end(connection, mirror_tag(TAG_ASK_CLAIM, 0));

	redis_begin(connection, 2);
	redis_add_text(connection, "HLEN");
	redis_add_text(connection, mirror->book);
	redis_end(connection, mirror_tag(TAG_ASK_KEYS, 0));
	mirror->ask_due = redis_clock() + ASK_EVERY;
}

static bool
answer(void *arg, void *tag_of_command, RedisReply *reply)
{
	Mirror	   *mirror = arg;
	Tag		   *tag = tag_of_command;

	if (tag->kind == TAG_WRITE)
		mirror->writing--;
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

	if (strncmp(text, "LOST", 4) == 0)
	{
		mirror->claim_lost = true;
		return true;
	}
	if (strncmp(text, "SUPERSEDED", 10) == 0)
		redis_fail(mirror->connection,
				   tag->kind == TAG_CLAIM ?
				   "superseded by a server with a newer epoch of fences, which advance_fence() would begin here" :
				   "superseded: another worker has begun to write this mirror");
	else
		redis_fail(mirror->connection, "Redis refused %s: %s", what[tag->kind],
				   text);
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
	if (redis_type(reply) != REDIS_TEXT || redis_length(reply) != CLAIM_LENGTH)
		return false;
	memcpy(mirror->claim, redis_text(reply), CLAIM_LENGTH);
	mirror->claim_lost = false;
	if (mirror->is_new)
		mirror->status->connections++;
	mirror->is_new = false;
	if (mirror->status->state != MIRROR_CONNECTED &&
		mirror->status->state != MIRROR_FAILING)
		mirror_report_state(mirror, MIRROR_RECONCILING);

	mirror_cache_clear(mirror->cache);
	mirror_troubles_doubt(&mirror->troubles);
	page_marks_set_all(&mirror->all);
	page_marks_clear(&mirror->compared);
	later_marks_clear(&mirror->at_work);
	later_marks_clear(&mirror->refused);
	later_marks_clear(&mirror->sessions);
	mirror->claimed_at = redis_clock();
	mirror->reconcile = false;
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
	later_marks_set(&mirror->refused, key->page, redis_clock() + RETRY_REFUSED);
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
		sweep(mirror, redis_text(reply));
		return true;
	}
	mirror_troubles_settle(&mirror->troubles);
	mirror->phase = PHASE_FOLLOWING;
	mirror->pause = 0;
	mirror->status->reconciled_at = GetCurrentTimestamp();
	ask(mirror);
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

static void
show_state(Mirror *mirror)
{
	bool		complete;

	mirror->status->conflicts = mirror->troubles.conflicts;
	if (mirror->phase == PHASE_FOLLOWING)
		mirror_report_state(mirror, mirror->troubles.refused > 0 ? MIRROR_FAILING :
							MIRROR_CONNECTED);

	complete = mirror->status->state == MIRROR_CONNECTED &&
		!page_marks_any(&mirror->changed) &&
		(mirror->phase != PHASE_FOLLOWING || mirror->writing == 0);
	if (complete)
		mirror->status->behind_since = 0;
	else if (mirror->status->behind_since == 0)
		mirror->status->behind_since = GetCurrentTimestamp();
}

static void
end_comparison(Mirror *mirror)
{
	if (mirror->comparison != NULL)
		mirror->comparison->done = mirror->comparison->failed = true;
	mirror->comparison = NULL;
}
