/*-------------------------------------------------------------------------
 *
 * mirror.c
 *	  Fuzzes the life of a mirror, by a Redis that says anything at any time.
 *
 * sources: mirror_life.c mirror_answer.c mirror_read.c mirror_compare.c mirror_comparison.c mirror_trouble.c mirror_cache.c mirror_report.c page_marks.c
 * with: mirror_script.c redis.c redis_tls.c redis_key.c resolve.c row_json.c key.c
 * lines: 70
 *
 * There is a table of a few rows that come and go.  The server, at the other end of
 * a socket, reads commands, which have to be well formed, and answers each as Redis
 * would, or with something of the right kind, or with anything; or closes.  When it
 * answers as it should again, the mirror has to come to its rest, and at the end no
 * memory and no file is left.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "fence.h"
#include "holder.h"
#include "lock_page.h"
#include "mirror_parts.h"
#include "mirror_settings.h"
#include "password_file.h"
#include "relations.h"

#define PAGES 3
#define ROWS_PER_PAGE 3
#define MAX_WORDS 512

typedef struct Row
{
	bool		there;
	LockRow		row;
} Row;

/* A command as it came. */
typedef struct Words
{
	int			n;
	char	   *word[MAX_WORDS];
	int			length[MAX_WORDS];
} Words;

char	   *setting_redis_password_file = "";
char	   *setting_redis_ca_file = "";
char	   *setting_redis_key;
int			setting_redis_majority = 2;
int			setting_redis_value;
int			setting_redis_timeout = 1000;
int			setting_redis_reconcile = 5;

static Row	table[PAGES][ROWS_PER_PAGE];
static int	at_work;			/* the page with a transaction at work (if the
								 * number is even, a prepared one); or -1 */
static bool open_table;
static bool extension;
static Oid	storage;

static int	external = 0;
static int	listener = -1;
static int	peer = -1;
static char path[64];
static StringInfoData heard;	/* and not answered yet */
static bool faithful;			/* the server answers as it should */
static char claim[CLAIM_LENGTH + 1];
static int	differences;

static void start_listening(void);
static void change_row(FuzzInput *input);
static void put_row(int page, int place, char last, int what,
					const char *bytes, size_t length);
static text *text_of(const char *bytes, size_t length);
static void serve(FuzzInput *input);
static bool read_command(Words *words);
static void answer(const Words *words, FuzzInput *input, StringInfo out);
static void answer_well(const Words *words, FuzzInput *input, bool varied,
						StringInfo out);
static void call(const Words *words, int script, FuzzInput *input, bool varied,
				 StringInfo out);
static void bulk(StringInfo out, const char *bytes, int length);
static void run(Mirror *mirror, FuzzInput *input, MirrorComparison **comparison);
static void settle(Mirror *mirror, MirrorComparison **comparison);
static bool step(Mirror *mirror);
static void note_difference(void *arg, Mirror *mirror, const char *key,
							int key_length, const char *redis_key,
							int redis_length, const char *problem);

/* ------------------------------------------------------ what it calls -- */

bool
AcquireExternalFD(void)
{
	external++;
	return true;
}

void
ReleaseExternalFD(void)
{
	external--;
}

void
StartTransactionCommand(void)
{
	CurrentMemoryContext = TopTransactionContext;
}

/* As the real one, it leaves whoever allocates then with a leak. */
void
CommitTransactionCommand(void)
{
	MemoryContextReset(TopTransactionContext);
	CurrentMemoryContext = TopMemoryContext;
}

Snapshot
GetTransactionSnapshot(void)
{
	return NULL;
}

Snapshot
GetActiveSnapshot(void)
{
	return NULL;
}

void
PushActiveSnapshot(Snapshot snapshot)
{
}

void
PopActiveSnapshot(void)
{
}

Oid
relations_find(DistlockRelation which)
{
	return extension ? 20000 : InvalidOid;
}

int64
fence_epoch(void)
{
	return 7;
}

uint64
GetSystemIdentifier(void)
{
	return UINT64CONST(0x123456789abcdef0);
}

bool
password_file_read(const char *path, char *password, char *error, size_t size)
{
	strcpy(password, "secret");
	return true;
}

bool
mirror_settings_want(const text *key)
{
	return true;
}

TimestampTz
holder_end(const LockRow *row)
{
	return row->expires_at;
}

char *
JsonEncodeDateTime(char *buf, Datum value, Oid typid, const int *tzp)
{
	sprintf(buf, INT64_FORMAT, DatumGetInt64(value));
	return buf;
}

LockTableState
lock_table_try_open(LockTable *lock_table, LOCKMODE mode)
{
	return open_table ? LOCK_TABLE_OPEN : LOCK_TABLE_BUSY;
}

void
lock_table_close(LockTable *lock_table, bool keep_lock)
{
}

BlockNumber
lock_table_pages(LockTable *lock_table)
{
	return PAGES;
}

Oid
lock_table_storage(LockTable *lock_table)
{
	return storage;
}

bool
lock_page_read(LockTable *lock_table, BlockNumber page, Snapshot snapshot,
			   LockRowReader read, void *arg, TransactionId *prepared)
{
	for (int i = 0; i < ROWS_PER_PAGE; i++)
	{
		if (table[page][i].there)
			read(&table[page][i].row, arg);
	}
	if (at_work == (int) page && page % 2 == 0)
		*prepared = 1000 + page;
	return at_work == (int) page;
}

/* ------------------------------------------------------------------- runs -- */

void
fuzz_one(FuzzInput *input)
{
	static const char *const templates[] = {
		"distlock:{database}:{key}", "plain", "rueidislock", "{index}{key}"
	};
	RedisAddress *address = palloc0(sizeof(RedisAddress));
	MirrorStatus *status = palloc(sizeof(MirrorStatus));
	MirrorComparison *comparison = NULL;
	Mirror	   *mirror;
	int			options = fuzz_byte(input);
	int			chunks = fuzz_top_chunks();

	start_listening();
	memset(table, 0, sizeof(table));
	at_work = -1;
	open_table = extension = true;
	storage = 30000;
	faithful = false;
	claim[0] = '\0';
	initStringInfo(&heard);
	setting_redis_key = pstrdup(templates[options & 3]);
	setting_redis_value = options & 4 ? MIRROR_VALUE_TOKEN : MIRROR_VALUE_JSON;
	setting_redis_password_file = options & 8 ? "file" : "";
	address->local = true;
	address->db = options & 16 ? 3 : 0;
	strlcpy(address->user, options & 32 ? "user" : "", sizeof(address->user));
	strlcpy(address->host, path, sizeof(address->host));
	strlcpy(address->shown, "unix:///fuzz", sizeof(address->shown));

	mirror = mirror_new(address, status, "my:database");
	if (options & 64)
	{
		/* From where it has come to by itself, with a lock or two. */
		put_row(0, 0, 'x', 3, "token", 5);
		put_row(1, 1, 'y', 1, "token", 5);
		settle(mirror, &comparison);
		faithful = false;
	}
	run(mirror, input, &comparison);
	settle(mirror, &comparison);

	mirror_free(mirror);
	if (comparison != NULL)
		mirror_comparison_free(comparison);
	if (peer >= 0)
		close(peer);
	peer = -1;
	/* What the listening socket has left of attempts that were given up. */
	for (int fd; (fd = accept(listener, NULL, NULL)) >= 0;)
		close(fd);
	fuzz_check(external == 0);
	fuzz_check(fuzz_top_chunks() == chunks);
}

static void
start_listening(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};

	if (listener >= 0)
		return;
	snprintf(path, sizeof(path), "fuzz-mirror-%d", (int) getpid());
	strlcpy(name.sun_path, path, sizeof(name.sun_path));
	unlink(path);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	fuzz_check(bind(listener, (struct sockaddr *) &name, sizeof(name)) == 0);
	fuzz_check(listen(listener, 8) == 0);
}

static void
run(Mirror *mirror, FuzzInput *input, MirrorComparison **comparison)
{
	while (input->length > 0)
	{
		switch (fuzz_up_to(input, 15))
		{
			case 0:
			case 1:
				for (int n = fuzz_up_to(input, 3); n >= 0; n--)
					change_row(input);
				{
					PageMarks	marks;

					page_marks_clear(&marks);
					marks.words[0] = fuzz_up_to(input, 7);
					mirror_note(mirror, &marks, fuzz_up_to(input, 15) == 15);
				}
				break;
			case 2:
				fuzz_pass_time(fuzz_up_to(input, 3000) * 1000);
				break;
			case 3:
				at_work = fuzz_up_to(input, PAGES) - 1;
				break;
			case 4:
				open_table = fuzz_up_to(input, 3) != 3;
				break;
			case 5:
				extension = fuzz_up_to(input, 7) != 7;
				break;
			case 6:
				storage += fuzz_up_to(input, 7) == 7;
				break;
			case 7:
				if (fuzz_up_to(input, 7) == 7)
					mirror_begin_anew(mirror);
				break;
			case 8:
				if (*comparison == NULL)
				{
					*comparison = mirror_comparison_new(note_difference, mirror);
					if (!mirror_compare(mirror, *comparison))
					{
						mirror_comparison_free(*comparison);
						*comparison = NULL;
					}
				}
				break;
			case 9:
				if (fuzz_up_to(input, 15) == 15)
					mirror_fail(mirror, "the worker has had enough");
				break;
			default:
				serve(input);
		}
		for (int i = 0; i < 8 && step(mirror); i++)
			;
		if (*comparison != NULL && (*comparison)->done)
		{
			mirror_comparison_free(*comparison);
			*comparison = NULL;
		}

		/* What the worker goes by, and what people see. */
		(void) mirror_due(mirror);
		if (mirror_socket(mirror) >= 0)
			fuzz_check(mirror_events(mirror) != 0);
		(void) mirror_is_behind(mirror);
		for (const char *c = mirror_status(mirror)->last_error; *c != '\0'; c++)
			fuzz_check(*c >= ' ' && *c < 127);
		fuzz_check(mirror_status(mirror)->keys >= 0);
		fuzz_check(mirror_status(mirror)->conflicts >= 0);
	}
}

/*
 * Time goes on in steps that no deadline misses.
 */
static void
settle(Mirror *mirror, MirrorComparison **comparison)
{
	FuzzInput	nothing = {NULL, 0};
	PageMarks	marks;
	bool		settled = false;

	faithful = open_table = extension = true;
	at_work = -1;
	page_marks_set_all(&marks);
	mirror_note(mirror, &marks, false);
	for (int i = 0; i < 400 && !settled; i++)
	{
		serve(&nothing);
		for (int k = 0; k < 8 && step(mirror); k++)
			serve(&nothing);
		if (*comparison != NULL && (*comparison)->done)
		{
			mirror_comparison_free(*comparison);
			*comparison = NULL;
		}
		settled = *comparison == NULL &&
			mirror_status(mirror)->state == MIRROR_CONNECTED &&
			!mirror_is_behind(mirror) &&
			redis_in_flight(mirror->connection) == 0;
		fuzz_pass_time(USECS_PER_SEC / 20);
	}
	if (!settled)
		fuzz_fail(__FILE__, __LINE__,
				  psprintf("it comes to rest: phase %d, state %d, \"%s\"",
						   mirror->phase, mirror_status(mirror)->state,
						   mirror_status(mirror)->last_error));
}

/*
 * After a transaction, its caller is in TopMemoryContext, and so is the worker.
 */
static bool
step(Mirror *mirror)
{
	MemoryContext saved = CurrentMemoryContext;
	bool		more = mirror_step(mirror);

	MemoryContextSwitchTo(saved);
	return more;
}

static void
note_difference(void *arg, Mirror *mirror, const char *key, int key_length,
				const char *redis_key, int redis_length, const char *problem)
{
	fuzz_check(arg == mirror && problem[0] != '\0');
	/* All of it can be read. */
	differences += redis_length > 0 && redis_key[redis_length - 1] == 'x';
	differences += key != NULL && key_length > 0 && key[key_length - 1] == 'x';
}

static void
change_row(FuzzInput *input)
{
	int			page = fuzz_up_to(input, PAGES - 1);
	int			place = fuzz_up_to(input, ROWS_PER_PAGE - 1);
	int			last = fuzz_byte(input);
	int			what = fuzz_byte(input);
	size_t		length = fuzz_up_to(input, 20);
	char	   *bytes = fuzz_bytes(input, &length);
	LockRow    *row = &table[page][place].row;

	put_row(page, place, last, what, bytes, length);
	row->ttl = Max(fuzz_number(input), 1000);
	if (row->scope == SCOPE_LEASE)
		row->expires_at = GetCurrentTimestamp() + fuzz_number(input) / 4;
}

/*
 * What is there: 1 a token, 2 an owner, 8 a session; or no row at all.  The key has
 * its place in it, so that no two rows have the same.
 */
static void
put_row(int page, int place, char last, int what, const char *bytes,
		size_t length)
{
	Row		   *row = &table[page][place];
	char		key[4] = {'k', 'a' + page, '0' + place, last};

	if (!row->there)
		row->row.key = text_of(key, 4);
	row->there = (what & 7) != 7;
	row->row.fence++;
	row->row.token = what & 1 ? text_of(bytes, length) : NULL;
	row->row.owner = what & 2 ? text_of(bytes, length) : NULL;
	row->row.scope = what & 8 ? SCOPE_SESSION : SCOPE_LEASE;
	row->row.ttl = USECS_PER_HOUR;
	row->row.expires_at = what & 8 ? DT_NOEND :
		GetCurrentTimestamp() + row->row.ttl;
	row->row.permit = (what & 0xf0) == 0xf0;
}

static text *
text_of(const char *bytes, size_t length)
{
	text	   *result = palloc(length + VARHDRSZ);

	SET_VARSIZE(result, length + VARHDRSZ);
	memcpy(VARDATA(result), bytes, length);
	return result;
}

/* ----------------------------------------------------------------- server -- */

/*
 * Answer some of what has come, if anybody has connected.
 */
static void
serve(FuzzInput *input)
{
	int			fd = accept(listener, NULL, NULL);
	char		buffer[65536];
	ssize_t		got;
	Words	   *words = palloc(sizeof(Words));
	int			n = faithful ? 1000 : 1 + fuzz_up_to(input, 15);

	if (fd >= 0)
	{
		if (peer >= 0)
			close(peer);
		peer = fd;
		fuzz_check(fcntl(peer, F_SETFL, O_NONBLOCK) == 0);
		resetStringInfo(&heard);
	}
	if (peer < 0)
		return;
	while ((got = recv(peer, buffer, sizeof(buffer), 0)) > 0)
		appendBinaryStringInfo(&heard, buffer, got);
	if (got == 0)
	{
		close(peer);
		peer = -1;
		return;
	}
	while (n-- > 0 && peer >= 0 && read_command(words))
	{
		StringInfoData out;

		initStringInfo(&out);
		answer(words, input, &out);
		if (peer >= 0)
			(void) !send(peer, out.data, out.len, MSG_NOSIGNAL);
	}
}

static int
take_number(const char *data, int *at, char kind)
{
	char	   *end;
	long		number;

	fuzz_check(data[*at] == kind);
	number = strtol(data + *at + 1, &end, 10);
	fuzz_check(end > data + *at + 1 && end[0] == '\r' && end[1] == '\n');
	fuzz_check(number >= 0);
	*at = end + 2 - data;
	return number;
}

/*
 * A whole one; what is sent at once may have been received in part.
 */
static bool
read_command(Words *words)
{
	int			at = 0;

	if (heard.len == 0 || memmem(heard.data, heard.len, "\r\n", 2) == NULL)
		return false;
	words->n = take_number(heard.data, &at, '*');
	fuzz_check(words->n >= 1 && words->n <= MAX_WORDS);
	for (int i = 0; i < words->n; i++)
	{
		if (memmem(heard.data + at, heard.len - at, "\r\n", 2) == NULL)
			return false;
		words->length[i] = take_number(heard.data, &at, '$');
		if (at + words->length[i] + 2 > heard.len)
			return false;
		words->word[i] = palloc(words->length[i] + 1);
		memcpy(words->word[i], heard.data + at, words->length[i]);
		words->word[i][words->length[i]] = '\0';
		at += words->length[i];
		fuzz_check(memcmp(heard.data + at, "\r\n", 2) == 0);
		at += 2;
	}
	memmove(heard.data, heard.data + at, heard.len - at + 1);
	heard.len -= at;
	return true;
}

static void
answer(const Words *words, FuzzInput *input, StringInfo out)
{
	static const char *const errors[] = {
		"-LOST claim", "-SUPERSEDED x", "-OCCUPIED x", "-NOPERM a key",
		"-NOPERM no", "-OOM command not allowed", "-WRONGPASS invalid s",
		"-ERR x, with args beginning with: s", "-", "-NOSCRIPT No matching"
	};
	int			how = faithful ? 0 : fuzz_byte(input);

	if (how < 160)
		answer_well(words, input, false, out);
	else if (how < 210)
		answer_well(words, input, true, out);
	else if (how < 230)
		appendStringInfo(out, "%s\r\n",
						 errors[fuzz_up_to(input, lengthof(errors) - 1)]);
	else if (how < 252)
	{
		size_t		length = fuzz_up_to(input, 60);

		appendBinaryStringInfo(out, fuzz_bytes(input, &length), length);
	}
	else if (how < 254)
	{
		close(peer);
		peer = -1;
	}
	/* Or never. */
}

static void
answer_well(const Words *words, FuzzInput *input, bool varied, StringInfo out)
{
	const char *command = words->word[0];

	if (strcmp(command, "AUTH") == 0 || strcmp(command, "SELECT") == 0)
		appendStringInfoString(out, varied ? ":1\r\n" : "+OK\r\n");
	else if (strcmp(command, "SCRIPT") == 0)
	{
		char		digest[41];
		int			script = 0;

		while (strcmp(words->word[2], mirror_script(script)) != 0)
			fuzz_check(++script < NUM_SCRIPTS);
		memset(digest, 'a' + script, 40);
		bulk(out, digest, varied ? fuzz_up_to(input, 40) : 40);
	}
	else if (strcmp(command, "HGET") == 0)
	{
		if (claim[0] == '\0' || varied)
			appendStringInfoString(out, "$-1\r\n");
		else
			bulk(out, claim, CLAIM_LENGTH);
	}
	else if (strcmp(command, "HLEN") == 0)
		appendStringInfo(out, ":" INT64_FORMAT "\r\n",
						 varied ? fuzz_number(input) : 3);
	else
	{
		fuzz_check(strcmp(command, "EVALSHA") == 0);
		fuzz_check(words->length[1] == 40);
		fuzz_check(atoi(words->word[2]) >= 1);
		call(words, words->word[1][0] - 'a', input, varied, out);
	}
}

static void
call(const Words *words, int script, FuzzInput *input, bool varied,
	 StringInfo out)
{
	int			keys = atoi(words->word[2]) - 1;

	/* A digest of the wrong length has been refused, but not of wrong bytes. */
	switch (script)
	{
		case SCRIPT_CLAIM:
			fuzz_check(words->n == 4 + keys + 3 && keys == 0);
			snprintf(claim, sizeof(claim), "%s %016d %s", words->word[4], 1,
					 words->word[6]);
			fuzz_check(strlen(claim) == CLAIM_LENGTH);
			appendStringInfoString(out, "*2\r\n");
			bulk(out, claim, varied ? fuzz_up_to(input, CLAIM_LENGTH) : CLAIM_LENGTH);
			bulk(out, "OOM", varied ? fuzz_up_to(input, 3) : 0);
			break;
		case SCRIPT_WRITE:
			fuzz_check(words->n == 4 + keys + 1 + 3 * keys);
			/* So many letters, or another number. */
			if (varied && fuzz_up_to(input, 3) == 3)
				keys = fuzz_up_to(input, keys + 1);
			appendStringInfo(out, "*2\r\n$%d\r\n", keys);
			for (int i = 0; i < keys; i++)
				appendStringInfoChar(out, varied ? "kcoex"[fuzz_up_to(input, 4)] : 'k');
			appendStringInfoString(out, "\r\n");
			bulk(out, "OOM", varied ? 3 : 0);
			break;
		case SCRIPT_SWEEP:
			bulk(out, varied ? "18446744073709551615" : "0",
				 varied ? fuzz_up_to(input, 20) : 1);
			break;
		case SCRIPT_COMPARE:
			fuzz_check(words->n == 4 + keys + keys);
			if (varied && fuzz_up_to(input, 3) == 3)
				keys = fuzz_up_to(input, keys + 1);
			appendStringInfo(out, "*%d\r\n", keys);
			for (int i = 0; i < keys; i++)
			{
				char		one[32];

				snprintf(one, sizeof(one), "%c" INT64_FORMAT,
						 varied ? "kmdfx"[fuzz_up_to(input, 4)] : 'k',
						 varied ? fuzz_number(input) : INT64CONST(1000));
				bulk(out, one, strlen(one));
			}
			break;
		case SCRIPT_LIST:
			appendStringInfoString(out, "*2\r\n");
			bulk(out, varied ? "7" : "0", 1);
			if (varied)
			{
				size_t		length = fuzz_up_to(input, 20);

				appendStringInfoString(out, "*1\r\n");
				length = Min(length, input->length);
				bulk(out, fuzz_bytes(input, &length), length);
			}
			else
				appendStringInfoString(out, "*0\r\n");
			break;
		default:
			appendStringInfoString(out, "-NOSCRIPT No matching script\r\n");
	}
}

static void
bulk(StringInfo out, const char *bytes, int length)
{
	appendStringInfo(out, "$%d\r\n", length);
	appendBinaryStringInfo(out, bytes, length);
	appendStringInfoString(out, "\r\n");
}
