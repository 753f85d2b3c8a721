/*-------------------------------------------------------------------------
 *
 * mirror_read.c
 *	  Reading the table of locks for a mirror.
 *
 * A step is a transaction of a few milliseconds, whose snapshot sees one version
 * of each row, and only what is committed.  What has to be sent is put into the
 * connection's buffer; that goes out when the transaction is over.
 *
 * When all pages are read, to reconcile, a lock that is not held is not sent,
 * as long as nothing is known of it: should Redis have it, it will be swept.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "fail_point.h"
#include "holder.h"
#include "key.h"
#include "lock_page.h"
#include "mirror_parts.h"
#include "mirror_settings.h"
#include "redis_key.h"
#include "row_json.h"
#include "steady_clock.h"
#include "text_bytes.h"

/* A step ends after the page on which it has come to either. */
#define ROWS_PER_STEP 512
#define STEP_TIME_US 2000

/* When a page is read again on which a transaction is at work. */
#define LOOK_AGAIN USECS_PER_SEC

/* When the table is tried again, if it is being changed. */
#define RETRY_BUSY (100 * USECS_PER_SEC / 1000)

/* What Redis is told of a lock that a live session holds, in milliseconds. */
#define SHORTEST_SESSION_MS 10000

/* A row to be looked at when its page is not locked any more. */
typedef struct ReadRow
{
	LockRow		row;
	uint64		key_hash;
} ReadRow;

typedef struct Reading
{
	Mirror	   *mirror;
	BlockNumber page;
	bool		changed;		/* and not only to reconcile or compare */
	bool		compare;
	List	   *rows;			/* ReadRow *, of this page */
	int			num_rows;		/* of all pages */
} Reading;

/* A Redis key to be written, or compared. */
typedef struct Write
{
	StringInfoData key;
	TaggedKey	tag;
	int64		fence;
	int64		ms;				/* 0: delete */
	const char *value;
	int			length;
} Write;

typedef struct Batch
{
	TagKind		kind;
	int			n;
	Write		writes[KEYS_PER_CALL];
} Batch;

static MemoryContext context = NULL;
static Batch writes = {TAG_WRITE};
static Batch comparisons = {TAG_COMPARE};

static void read_marked(LockTable *table, Reading *reading);
static void read_page(LockTable *table, Reading *reading);
static void read_row(const LockRow *row, void *arg);
static bool is_known(Mirror *mirror, const LockRow *row, uint64 key_hash);
static uint32 hash_rest(const LockRow *row);
static void treat(Reading *reading, const ReadRow *read);
static void treat_held(Reading *reading, const ReadRow *read, TimestampTz now,
					   TimestampTz end);
static void treat_free(Reading *reading, const ReadRow *read);
static Write *add(Mirror *mirror, Batch *batch, BlockNumber page,
				  const ReadRow *read, int copy);
static void set_value(Write *write, const LockRow *row, TimestampTz end);
static void flush(Mirror *mirror, Batch *batch);

bool
mirror_read(Mirror *mirror)
{
	Reading		reading = {mirror};
	LockTable	table;
	MemoryContext caller = CurrentMemoryContext;
	bool		open;

	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "distlock mirror",
										ALLOCSET_DEFAULT_SIZES);
	StartTransactionCommand();
	open = lock_table_try_open(&table, AccessShareLock) == LOCK_TABLE_OPEN;
	if (open)
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		MemoryContextSwitchTo(context);
		writes.n = comparisons.n = 0;
		mirror->reading_since = mirror->changed_since;
		if (mirror->reading_since == 0)
			mirror->reading_since = GetCurrentTimestamp();
		FAIL_POINT("mirror_reading");
		read_marked(&table, &reading);
		FAIL_POINT("mirror_read");
		PopActiveSnapshot();
		lock_table_close(&table, false);
	}
	else
		mirror->read_due = steady_now() + RETRY_BUSY;
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	MemoryContextReset(context);
	return open;
}

/*
 * Pages that have the same bit are read together.
 */
static void
read_marked(LockTable *table, Reading *reading)
{
	Mirror	   *mirror = reading->mirror;
	BlockNumber pages = lock_table_pages(table);
	int64		began = steady_now();

	/* Another file: nothing that is known of the pages goes for it. */
	if (mirror->storage != lock_table_storage(table))
	{
		if (OidIsValid(mirror->storage))
			mirror->reconcile = true;
		mirror->storage = lock_table_storage(table);
	}

	/* Where the last step has ended, so that all have their turn. */
	for (int n = 0; n < DIRTY_WORDS; n++)
	{
		int			i = mirror->next_word;
		uint32		bits = mirror->changed.words[i];

		bits |= mirror->all.words[i] | mirror->compared.words[i];
		for (int bit = 0; bits != 0; bit++, bits >>= 1)
		{
			uint32		mask = (uint32) 1 << bit;

			if ((bits & 1) == 0)
				continue;
			reading->changed = (mirror->changed.words[i] & mask) != 0;
			reading->compare = (mirror->compared.words[i] & mask) != 0;
			mirror->changed.words[i] &= ~mask;
			mirror->all.words[i] &= ~mask;
			mirror->compared.words[i] &= ~mask;

			for (BlockNumber page = i * 32 + bit; page < pages;
				 page += DIRTY_BITS)
			{
				reading->page = page;
				read_page(table, reading);
			}
			if (reading->num_rows >= ROWS_PER_STEP ||
				steady_now() - began >= STEP_TIME_US)
			{
				flush(mirror, &writes);
				return;
			}
		}
		mirror->next_word = (i + 1) % DIRTY_WORDS;
	}
	flush(mirror, &writes);
}

static void
read_page(LockTable *table, Reading *reading)
{
	Mirror	   *mirror = reading->mirror;
	ListCell   *cell;

	reading->rows = NIL;
	if (lock_page_read(table, reading->page, GetActiveSnapshot(), read_row,
					   reading, &mirror->prepared))
		later_marks_set(&mirror->at_work, reading->page,
						steady_now() + LOOK_AGAIN);
	foreach(cell, reading->rows)
		treat(reading, lfirst(cell));
	if (reading->compare)
	{
		/* In this order: what is new, and then what should be there. */
		flush(mirror, &writes);
		flush(mirror, &comparisons);
	}
}

static void
read_row(const LockRow *row, void *arg)
{
	Reading    *reading = arg;
	ReadRow    *read;
	LockKey		key;

	if (row->permit != 0 || !mirror_settings_want(row->key))
		return;
	key_from_stored(&key, row->key);
	if (!reading->compare && is_known(reading->mirror, row, key.hash))
		return;

	read = palloc(sizeof(ReadRow));
	read->row = *row;
	read->row.key = text_copy(row->key);
	read->row.token = text_copy(row->token);
	read->row.owner = text_copy(row->owner);
	read->row.data = NULL;
	read->key_hash = key.hash;
	reading->rows = lappend(reading->rows, read);
	reading->num_rows++;
}

/*
 * Has Redis been told just that?  A look that costs little, for most rows of a
 * page that are not the one that has changed.
 */
static bool
is_known(Mirror *mirror, const LockRow *row, uint64 key_hash)
{
	const MirrorSent *sent = mirror_cache_find(mirror->cache, key_hash);

	if (sent == NULL || sent->fence != row->fence)
		return false;
	if (row->token == NULL)
		return sent->until == 0;
	return row->scope == SCOPE_LEASE && sent->until == row->expires_at &&
		sent->rest_hash == hash_rest(row);
}

/*
 * What else Redis is told than the fence and the end.
 */
static uint32
hash_rest(const LockRow *row)
{
	uint32		hash = 0;

	if (row->owner != NULL)
		hash = hash_bytes((const unsigned char *) text_bytes(row->owner),
						  text_size(row->owner));
	if (row->scope == SCOPE_SESSION)
		hash = hash_combine(hash, hash_bytes((const unsigned char *) &row->ttl,
											 sizeof(row->ttl)));
	return hash;
}

static void
treat(Reading *reading, const ReadRow *read)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz end = DT_NOBEGIN;

	if (read->row.token != NULL)
		end = holder_end(&read->row);
	if (end > now)
		treat_held(reading, read, now, end);
	else
		treat_free(reading, read);
}

static void
treat_held(Reading *reading, const ReadRow *read, TimestampTz now,
		   TimestampTz end)
{
	Mirror	   *mirror = reading->mirror;
	const MirrorSent *sent = mirror_cache_find(mirror->cache, read->key_hash);
	MirrorSent	sending = {read->key_hash, read->row.fence, end,
	hash_rest(&read->row), 0};
	int64		clock = steady_now();
	int64		ms;
	bool		unknown = sent == NULL && !reading->changed;
	bool		again = reading->compare && mirror->comparison->again;
	bool		compare = reading->compare;
	bool		send;

	if (again)
		compare = mirror_comparison_doubts(mirror->comparison, read->key_hash);

	/* Rounded up, and one more: Redis adds it to a time without fractions. */
	if (end == DT_NOEND)
	{
		ms = Max(read->row.ttl / 1000, SHORTEST_SESSION_MS);
		sending.renew_at = clock + Min(ms, LONGEST_MS) * 1000 / 3;
	}
	else
		ms = (end - now + 999) / 1000 + 1;
	ms = Min(ms, LONGEST_MS);

	if (sent != NULL && sent->fence == read->row.fence && sent->until == end &&
		sent->rest_hash == sending.rest_hash &&
		(sent->renew_at == 0 || clock < sent->renew_at))
	{
		send = false;
		sending = *sent;
	}
	else
		send = !(reading->compare && unknown);
	if (sending.renew_at != 0)
		later_marks_set(&mirror->sessions, reading->page, sending.renew_at);

	for (int i = 0; i < mirror->copies; i++)
	{
		Write	   *write;

		if (send)
		{
			write = add(mirror, &writes, reading->page, read, i);
			write->ms = ms;
			set_value(write, &read->row, end);
			if (mirror->comparison != NULL)
				mirror_comparison_expect(mirror->comparison, write->key.data,
										 write->key.len);
		}
		if (compare)
		{
			write = add(mirror, &comparisons, reading->page, read, i);
			set_value(write, &read->row, end);
			write->tag.lock = mirror_comparison_add(mirror->comparison,
													read->row.key,
													write->key.data,
													write->key.len, end, ms,
													unknown && !again);
		}
	}
	if (send)
		mirror_cache_put(mirror->cache, &sending);
}

static void
treat_free(Reading *reading, const ReadRow *read)
{
	Mirror	   *mirror = reading->mirror;
	const MirrorSent *sent = mirror_cache_find(mirror->cache, read->key_hash);
	MirrorSent	sending = {read->key_hash, read->row.fence, 0, 0, 0};

	/* Fences begin at 1: a lock of scope "transaction" may have drawn none. */
	if (read->row.fence == 0 || (sent == NULL && !reading->changed) ||
		(sent != NULL && sent->fence == read->row.fence && sent->until == 0))
		return;
	for (int i = 0; i < mirror->copies; i++)
		add(mirror, &writes, reading->page, read, i)->ms = 0;
	mirror_cache_put(mirror->cache, &sending);
}

/*
 * The copies of a lock stay together.
 */
static Write *
add(Mirror *mirror, Batch *batch, BlockNumber page, const ReadRow *read,
	int copy)
{
	Write	   *write;

	if (copy == 0 && batch->n > 0 &&
		(mirror->one_by_one || batch->n + mirror->copies > KEYS_PER_CALL))
	{
		if (batch == &comparisons)
			flush(mirror, &writes);
		flush(mirror, batch);
	}
	write = &batch->writes[batch->n++];
	initStringInfo(&write->key);
	redis_key_append(&write->key, mirror->template, mirror->database,
					 read->row.key, copy);
	write->tag.key_hash = read->key_hash;
	write->tag.page = page;
	write->tag.lock = NULL;
	write->fence = read->row.fence;
	write->ms = 0;
	write->value = "";
	write->length = 0;
	return write;
}

static void
set_value(Write *write, const LockRow *row, TimestampTz end)
{
	StringInfoData value;

	if (setting_redis_value == MIRROR_VALUE_TOKEN)
	{
		write->value = text_bytes(row->token);
		write->length = text_size(row->token);
		return;
	}
	initStringInfo(&value);
	appendStringInfoChar(&value, '{');
	row_json_append(&value, row);
	appendStringInfoString(&value, ",\"expires_at\":");
	if (end == DT_NOEND)
		appendStringInfoString(&value, "null");
	else
		row_json_append_time(&value, end);
	appendStringInfoChar(&value, '}');
	write->value = value.data;
	write->length = value.len;
}

static void
flush(Mirror *mirror, Batch *batch)
{
	RedisConnection *connection = mirror->connection;
	bool		write = batch->kind == TAG_WRITE;
	Tag		   *tag;
	char		number[32];

	if (batch->n == 0)
		return;
	tag = mirror_tag(batch->kind, batch->n);
	tag->since = mirror->reading_since;
	if (write)
		mirror_begin_call(mirror, SCRIPT_WRITE, batch->n, 1 + 3 * batch->n);
	else
		mirror_begin_call(mirror, SCRIPT_COMPARE, batch->n, batch->n);
	for (int i = 0; i < batch->n; i++)
	{
		redis_add(connection, batch->writes[i].key.data,
				  batch->writes[i].key.len);
		tag->keys[i] = batch->writes[i].tag;
	}
	if (write)
		redis_add(connection, mirror->claim, CLAIM_LENGTH);
	for (int i = 0; i < batch->n; i++)
	{
		const Write *one = &batch->writes[i];

		if (write)
		{
			snprintf(number, sizeof(number), "%0*lld", FENCE_DIGITS,
					 (long long) one->fence);
			redis_add_text(connection, number);
			snprintf(number, sizeof(number), INT64_FORMAT, one->ms);
			redis_add_text(connection, number);
		}
		redis_add(connection, one->value, one->length);
	}
	redis_end(connection, tag);
	FAIL_POINT("mirror_script_sent");
	if (!write)
		mirror->comparing++;
	else if (mirror->writes_sent++ == mirror->writes_answered)
		mirror->writing_since = mirror->reading_since;
	batch->n = 0;
}
