/*-------------------------------------------------------------------------
 *
 * row_json.c
 *	  Fuzzes what is said of a lock in JSON, by events and in Redis.
 *
 * sources: row_json.c events.c
 * lines: 45
 *
 * It has to parse, to say what went in, and to be no longer than a notification
 * may be.  How strings are escaped and times are written is the server's, for which
 * common/ and this file have stand-ins; that the server's own do it right is
 * tested on a server.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "utils/builtins.h"
#include "utils/json.h"

#include "events.h"
#include "row_json.h"

/* A notification of PostgreSQL has fewer than 8,000 bytes; events promise this. */
#define LONGEST_PAYLOAD 5000

int			setting_expiry_warning;
int			setting_events;

static const char *skip(const char *json, const char *expected);
static const char *skip_string(const char *json, const char *value);
static text *text_of(const char *bytes);

char *
JsonEncodeDateTime(char *buf, Datum value, Oid typid, const int *tzp)
{
	fuzz_check(typid == 1184 && *tzp == 0);
	sprintf(buf, INT64_FORMAT, DatumGetInt64(value));
	return buf;
}

void
fuzz_one(FuzzInput *input)
{
	static const char *const kinds[] = {"granted", "extended", "released",
	"expired", "forced", "expiring"};
	LockRow    *row = palloc(sizeof(LockRow));
	int			kind = fuzz_up_to(input, 5);
	bool		has_owner = (fuzz_byte(input) & 1) != 0;
	int64		at;
	char	   *key;
	char	   *owner;
	char	   *payload;
	const char *next;

	row->fence = fuzz_number(input);
	at = fuzz_number(input);
	key = fuzz_string(input);
	key[strnlen(key, KEY_MAX_BYTES)] = '\0';
	owner = fuzz_string(input);
	owner[strnlen(owner, OWNER_MAX_BYTES)] = '\0';
	row->key = text_of(key);
	row->owner = has_owner ? text_of(owner) : NULL;
	/* A secret that nothing may say. */
	row->token = NULL;
	row->data = NULL;

	payload = event_payload(kind, row, at);
	fuzz_check(strlen(payload) <= LONGEST_PAYLOAD);
	next = skip(payload, psprintf("{\"version\":1,\"event\":\"%s\",\"key\":",
								  kinds[kind]));
	next = skip_string(next, key);
	next = skip(next, psprintf(",\"fence\":" INT64_FORMAT ",\"owner\":",
							   row->fence));
	next = has_owner ? skip_string(next, owner) : skip(next, "null");
	next = skip(next, psprintf(",\"at\":\"" INT64_FORMAT "\"}", at));
	fuzz_check(*next == '\0');

	setting_events = fuzz_byte(input);
	setting_expiry_warning = fuzz_byte(input);
	fuzz_check(event_is_wanted(kind) ==
			   (kind == EVENT_EXPIRING ? setting_expiry_warning > 0 :
				(setting_events >> kind & 1) != 0));
}

/*
 * This comes next; what follows it.
 */
static const char *
skip(const char *json, const char *expected)
{
	fuzz_check(strncmp(json, expected, strlen(expected)) == 0);
	return json + strlen(expected);
}

/*
 * A string of JSON comes next, with this value.
 */
static const char *
skip_string(const char *json, const char *value)
{
	json = skip(json, "\"");
	for (; *json != '"'; json++)
	{
		unsigned int character = (unsigned char) *json;

		fuzz_check(character >= ' ');
		if (*json == '\\')
		{
			json++;
			if (*json == 'u')
			{
				char		digits[5] = {0};

				strlcpy(digits, json + 1, sizeof(digits));
				fuzz_check(strspn(digits, "0123456789abcdefABCDEF") == 4);
				character = strtoul(digits, NULL, 16);
				json += 4;
			}
			else
			{
				fuzz_check(*json == '"' || *json == '\\');
				character = *json;
			}
		}
		fuzz_check(character == (unsigned char) *value);
		value++;
	}
	fuzz_check(*value == '\0');
	return json + 1;
}

static text *
text_of(const char *bytes)
{
	size_t		length = strlen(bytes);
	text	   *result = palloc(length + VARHDRSZ);

	SET_VARSIZE(result, length + VARHDRSZ);
	memcpy(VARDATA(result), bytes, length);
	return result;
}
