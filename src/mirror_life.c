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
#include "access/xlog.h"
#include "common/pg_prng.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "fail_point.h"
#include "fence.h"
#include "mirror_parts.h"
#include "mirror_settings.h"
#include "password_file.h"
#include "redis_key.h"
#include "relations.h"
#include "steady_clock.h"

/* Between two tries to connect: so long, then twice as long, and so on. */
#define SHORTEST_PAUSE (50 * USECS_PER_SEC / 1000)
#define LONGEST_PAUSE USECS_PER_SEC

/* When Redis is asked whether the claim is still there. */
#define ASK_EVERY (USECS_PER_SEC / 2)

/* A claim that Redis had no room for is made again. */
#define RETRY_CLAIM USECS_PER_SEC

/*
 * When rows have gone unseen, reconcile that long after the last time, and longer
 * by this for each key, which is more than it takes.
 */
#define RECONCILE_GAP USECS_PER_SEC
#define RECONCILE_GAP_KEY 50

/* See settle(). */
#define ROUNDS 3

/* Whether the table is another file (TRUNCATE, VACUUM FULL) is looked at. */
#define LOOK_AT_TABLE (2 * USECS_PER_SEC)

/* No more is read from the table while so many commands wait for an answer. */
#define MAX_IN_FLIGHT 16

static void open_connection(Mirror *mirror);
static void greet(Mirror *mirror);
static void claim(Mirror *mirror);
static void work(Mirror *mirror);
static bool settle(Mirror *mirror);
static bool is_at_rest(const Mirror *mirror);
static int64 reconcile_due(const Mirror *mirror);
static bool may_read(const Mirror *mirror);
static bool has_to_read(const Mirror *mirror);
static bool has_more(const Mirror *mirror);
static void ask(Mirror *mirror);
static void show_state(Mirror *mirror);

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
	mirror_end_comparison(mirror);
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
mirror_note(Mirror *mirror, const PageMarks *marks, bool gap)
{
	page_marks_add(&mirror->changed, marks->words);
	if (mirror->changed_since == 0)
		mirror->changed_since = GetCurrentTimestamp();
	mirror->gap = mirror->gap || gap;
}

bool
mirror_is_sending(const Mirror *mirror)
{
	return mirror->phase >= PHASE_CLAIMING;
}

bool
mirror_is_behind(const Mirror *mirror)
{
	return mirror->phase == PHASE_CLAIMING ||
		(mirror_is_sending(mirror) && has_to_read(mirror));
}

TransactionId
mirror_prepared(const Mirror *mirror)
{
	return mirror_is_sending(mirror) ? mirror->prepared : InvalidTransactionId;
}

void
mirror_begin_anew(Mirror *mirror)
{
	if (mirror->phase >= PHASE_SENDING)
		mirror->claim_lost = true;
}

bool
mirror_step(Mirror *mirror)
{
	if (mirror->phase == PHASE_RESTING)
	{
		if (steady_now() < mirror->next_try)
			return false;
		open_connection(mirror);
		if (mirror->phase == PHASE_RESTING)
			return false;
	}

	if (redis_step(mirror->connection, mirror_answer, mirror))
	{
		work(mirror);
		/* Send what that has queued. */
		if (redis_step(mirror->connection, mirror_answer, mirror))
		{
			show_state(mirror);
			return has_more(mirror);
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
	mirror_end_comparison(mirror);

	mirror->pause = Min(Max(SHORTEST_PAUSE, 2 * mirror->pause), LONGEST_PAUSE);
	mirror->next_try = steady_now() +
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
	else if (mirror->comparison != NULL && mirror->comparing == 0 &&
			 !page_marks_any(&mirror->compared) &&
			 !page_marks_any(&mirror->all))
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

void
mirror_begin_call(Mirror *mirror, MirrorScript script, int keys, int arguments)
{
	RedisConnection *connection = mirror->connection;
	char		number[16];

	redis_begin(connection, 4 + keys + arguments);
	redis_add_text(connection, "EVALSHA");
	redis_add_text(connection, mirror->scripts[script]);
	snprintf(number, sizeof(number), "%d", 1 + keys);
	redis_add_text(connection, number);
	redis_add_text(connection, mirror->book);
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
									setting_redis_timeout, mirror->attempts++);
	mirror->phase = PHASE_OPENING;
	mirror->claim_lost = mirror->claim_is_old = false;
	mirror->is_new = true;
	mirror->writes_sent = mirror->writes_answered = 0;
	mirror->writing_since = 0;
	mirror->comparing = 0;
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
	FAIL_POINT("mirror_greeting");
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
	FAIL_POINT("mirror_claiming");
	if (OidIsValid(relations_find(REL_FENCE_SEQ)))
		epoch = fence_epoch();
	CommitTransactionCommand();
	if (epoch < 0)
	{
		redis_fail(connection, "the extension is not there any more");
		return;
	}

	snprintf(number, sizeof(number), "%0*lld", FENCE_DIGITS, (long long) epoch);
	mirror_begin_call(mirror, SCRIPT_CLAIM, 0, 3);
	redis_add_text(connection, number);
	/* The counter goes on even if Redis has forgotten the last one. */
	snprintf(number, sizeof(number), INT64_FORMAT, GetCurrentTimestamp());
	redis_add_text(connection, number);
	snprintf(number, sizeof(number), "%0*llx", SYSTEM_DIGITS,
			 (unsigned long long) GetSystemIdentifier());
	redis_add_text(connection, number);
	redis_end(connection, mirror_tag(TAG_CLAIM, 0));
	FAIL_POINT("mirror_claim_sent");
	mirror->was_following = mirror->phase == PHASE_FOLLOWING &&
		!mirror->claim_lost;
	mirror->phase = PHASE_CLAIMING;
}

/*
 * Whatever there is to do besides reading answers.
 */
static void
work(Mirror *mirror)
{
	int64		now = steady_now();

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
		FAIL_POINT("mirror_reconciling");
		claim(mirror);
		return;
	}

	/* Who is still at work there will be found to be. */
	if (later_marks_move(&mirror->at_work, now, &mirror->changed))
		mirror->prepared = InvalidTransactionId;
	(void) later_marks_move(&mirror->refused, now, &mirror->changed);
	(void) later_marks_move(&mirror->sessions, now, &mirror->changed);
	if (mirror->look_due <= now)
	{
		mirror->look = true;
		mirror->look_due = now + LOOK_AT_TABLE;
	}

	if (settle(mirror))
		mirror_compare_step(mirror);
	if (may_read(mirror) && (has_to_read(mirror) || mirror->look))
		(void) mirror_read(mirror);
	mirror->look = false;
	if (!page_marks_any(&mirror->changed))
		mirror->changed_since = 0;
	if (mirror->phase == PHASE_FOLLOWING && mirror->ask_due <= now)
		ask(mirror);
}

/*
 * When all pages have been read, each by a snapshot of its own, a row may still
 * have been missed: one that has moved to a page that had been read.  That page
 * is marked by now, since the row was written before the snapshot that did not
 * see it any more, and all marks have been taken since (see mirror_marks.h).  So
 * what is marked is read once more; and, since a row can move twice, again.
 *
 * True when nothing of that is to be done.
 */
static bool
settle(Mirror *mirror)
{
	if (page_marks_any(&mirror->all))
		return false;
	if (mirror->rounds < ROUNDS)
	{
		mirror->rounds++;
		page_marks_add(&mirror->all, mirror->changed.words);
		page_marks_add(&mirror->all, mirror->at_work.marks.words);
		return false;
	}
	if (mirror->rounds == ROUNDS)
	{
		mirror->rounds++;
		mirror->writes_awaited = mirror->writes_sent;
	}
	if (mirror->phase == PHASE_SENDING &&
		mirror->writes_answered >= mirror->writes_awaited)
	{
		/*
		 * What was refused has an old stamp still, as everything has when the
		 * claim is an old one.
		 */
		mirror->sweep_owed = mirror->claim_is_old ||
			mirror->troubles.refused_anew;
		if (mirror->sweep_owed)
			mirror_follow(mirror);
		else
		{
			mirror_sweep(mirror, "0");
			mirror->phase = PHASE_SWEEPING;
		}
	}
	return true;
}

void
mirror_follow(Mirror *mirror)
{
	mirror_troubles_settle(&mirror->troubles);
	mirror->phase = PHASE_FOLLOWING;
	mirror->pause = 0;
	mirror->status->reconciled_at = GetCurrentTimestamp();
	ask(mirror);
}

/*
 * Nothing to be read, now or later, and all is answered.  What has been refused is
 * read again later; so if something still counts as refused then, its row has been
 * deleted, and only a reconciliation finds what it has left in Redis.
 */
static bool
is_at_rest(const Mirror *mirror)
{
	return !has_to_read(mirror) &&
		!page_marks_any(&mirror->refused.marks) &&
		mirror->writes_answered == mirror->writes_sent;
}

static int64
reconcile_due(const Mirror *mirror)
{
	int64		due = mirror->claimed_at;

	if (mirror->claim_is_old)
		return due + RETRY_CLAIM;
	if (mirror->reconcile)
		return due + SHORTEST_PAUSE;
	if (mirror->sweep_owed && mirror->troubles.refused == 0)
		return due + RETRY_CLAIM;
	if (mirror->troubles.refused > 0 && is_at_rest(mirror))
		return due + RETRY_CLAIM;
	if (mirror->gap)
		return due + RECONCILE_GAP + mirror->status->keys * RECONCILE_GAP_KEY;
	return due + setting_redis_reconcile * USECS_PER_SEC;
}

static bool
may_read(const Mirror *mirror)
{
	return mirror->phase >= PHASE_SENDING && !mirror->claim_lost &&
		redis_in_flight(mirror->connection) < MAX_IN_FLIGHT &&
		mirror->read_due <= steady_now();
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
	if (mirror->phase == PHASE_OPENING)
		return redis_is_ready(mirror->connection);
	if (mirror->phase == PHASE_GREETING)
		return redis_in_flight(mirror->connection) == 0;
	if (mirror->phase < PHASE_SENDING)
		return false;
	if (mirror->claim_lost)
		return redis_in_flight(mirror->connection) == 0;
	if (may_read(mirror) && has_to_read(mirror))
		return true;
	if (page_marks_any(&mirror->all))
		return false;
	return mirror->rounds <= ROUNDS ||
		(mirror->phase == PHASE_SENDING &&
		 mirror->writes_answered >= mirror->writes_awaited) ||
		mirror_compare_has_more(mirror);
}

void
mirror_sweep(Mirror *mirror, const char *cursor)
{
	RedisConnection *connection = mirror->connection;

	mirror_begin_call(mirror, SCRIPT_SWEEP, 0, 2);
	redis_add(connection, mirror->claim, CLAIM_LENGTH);
	redis_add_text(connection, cursor);
	redis_end(connection, mirror_tag(TAG_SWEEP, 0));
	FAIL_POINT("mirror_sweeping");
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
	mirror->ask_due = steady_now() + ASK_EVERY;
}

static void
show_state(Mirror *mirror)
{
	MirrorStatus *status = mirror->status;
	bool		failing = mirror->troubles.refused > 0 || mirror->claim_is_old;
	TimestampTz since = mirror->changed_since;

	status->conflicts = mirror->troubles.conflicts;
	if (mirror->phase == PHASE_FOLLOWING)
		mirror_report_state(mirror, failing ? MIRROR_FAILING : MIRROR_CONNECTED);

	if (mirror->writing_since != 0 &&
		(since == 0 || mirror->writing_since < since))
		since = mirror->writing_since;
	if (status->state == MIRROR_CONNECTED)
		status->behind_since = since;
	else if (status->behind_since == 0)
		status->behind_since = GetCurrentTimestamp();
}

void
mirror_end_comparison(Mirror *mirror)
{
	if (mirror->comparison != NULL)
		mirror->comparison->done = mirror->comparison->failed = true;
	mirror->comparison = NULL;
}
