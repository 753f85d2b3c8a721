/*-------------------------------------------------------------------------
 *
 * redis_key.c
 *	  How the locks are called in Redis.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redis_key.h"
#include "text_bytes.h"

/* The book of a mirror, see README.mirror.md. */
#define BOOK_PREFIX "distlock-mirror:"

typedef enum Placeholder
{
	PLACE_DATABASE,
	PLACE_KEY,
	PLACE_INDEX
} Placeholder;

static const char *const placeholders[] = {
	[PLACE_DATABASE] = "{database}",
	[PLACE_KEY] = "{key}",
	[PLACE_INDEX] = "{index}",
};

/*
 * The keys of existing clients: most take the name of the lock as it is;
 * rueidislock, for Go, has several keys for each, "prefix:index:name".
 */
static const char *const profiles[][2] = {
	{"plain", "{key}"},
	{"rueidislock", "rueidislock:{index}:{key}"},
};

static int	placeholder_at(const char *text);
static void append_database(StringInfo out, const char *database);

const char *
redis_key_template(const char *setting)
{
	for (int i = 0; i < lengthof(profiles); i++)
	{
		if (pg_strcasecmp(setting, profiles[i][0]) == 0)
			return profiles[i][1];
	}
	return setting;
}

const char *
redis_key_check_template(const char *setting)
{
	int			count[lengthof(placeholders)] = {0};

	for (const char *c = redis_key_template(setting); *c != '\0'; c++)
	{
		int			which = placeholder_at(c);

		if (which >= 0)
		{
			count[which]++;
			c += strlen(placeholders[which]) - 1;
		}
		else if (*c == '{' || *c == '}')
			return "The only words in braces are {database}, {key} and {index}.";
	}
	if (count[PLACE_KEY] == 0)
		return "It has no {key}.";
	if (count[PLACE_KEY] > 1 || count[PLACE_INDEX] > 1 ||
		count[PLACE_DATABASE] > 1)
		return "A word in braces can be there once.";
	return NULL;
}

bool
redis_key_is_indexed(const char *template)
{
	return strstr(template, placeholders[PLACE_INDEX]) != NULL;
}

void
redis_key_append(StringInfo out, const char *template, const char *database,
				 const text *key, int index)
{
	if (key == NULL)
	{
		appendStringInfoString(out, BOOK_PREFIX);
		append_database(out, database);
		appendStringInfoChar(out, ':');
	}
	while (*template != '\0')
	{
		int			which = placeholder_at(template);

		if (which == PLACE_DATABASE)
			append_database(out, database);
		else if (which == PLACE_KEY && key != NULL)
			appendBinaryStringInfo(out, text_bytes(key),
								   text_size(key));
		else if (which == PLACE_INDEX && key != NULL)
			appendStringInfo(out, "%d", index);
		else
		{
			appendStringInfoChar(out, *template++);
			continue;
		}
		template += strlen(placeholders[which]);
	}
}

/*
 * Which placeholder begins here; -1 for none.
 */
static int
placeholder_at(const char *text)
{
	for (int i = 0; i < lengthof(placeholders); i++)
	{
		if (strncmp(text, placeholders[i], strlen(placeholders[i])) == 0)
			return i;
	}
	return -1;
}

static void
append_database(StringInfo out, const char *database)
{
	for (; *database != '\0'; database++)
	{
		if (*database == '%' || *database == ':')
			appendStringInfo(out, "%%%02X", (unsigned char) *database);
		else
			appendStringInfoChar(out, *database);
	}
}
