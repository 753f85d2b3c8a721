/*-------------------------------------------------------------------------
 *
 * redis_key.c
 *	  Fuzzes the templates of Redis keys.
 *
 * sources: redis_key.c
 * lines: 95
 *
 * Two locks never have the same Redis key under an accepted template: not of two
 * databases, if the template has {database}, and not of one.  Nor has a lock that
 * of the book, where the database's name is in it.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "redis_key.h"

static void check_template(const char *template);
static char *make(const char *template, const char *database, const text *key,
				  int index);
static size_t count(const char *template, const char *word);

void
fuzz_one(FuzzInput *input)
{
	char	   *setting = fuzz_string(input);
	const char *problem = redis_key_check_template(setting);
	const char *template = redis_key_template(setting);
	char	   *databases[2];
	text	   *keys[2];
	int			indexes[2];
	char	   *made[2];
	bool		same_key;

	for (int i = 0; i < 2; i++)
	{
		databases[i] = fuzz_string(input);
		indexes[i] = fuzz_up_to(input, 12);
		keys[i] = fuzz_text(input, 1 + fuzz_up_to(input, 20));
		/* Such are not refused by databases, nor keys with a zero byte. */
		if (databases[i][0] == '\0' || VARSIZE_ANY_EXHDR(keys[i]) == 0 ||
			memchr(VARDATA_ANY(keys[i]), 0, VARSIZE_ANY_EXHDR(keys[i])) != NULL)
			return;
	}
	if (problem != NULL)
	{
		fuzz_check(problem[0] != '\0');
		return;
	}
	check_template(template);
	for (int i = 0; i < 2; i++)
		made[i] = make(template, databases[i], keys[i], indexes[i]);
	fuzz_check(make(template, databases[0], NULL, 0) != NULL);

	same_key = fuzz_text_is(keys[0], VARDATA_ANY(keys[1]),
							VARSIZE_ANY_EXHDR(keys[1]));
	if (same_key && strcmp(databases[0], databases[1]) == 0 &&
		indexes[0] == indexes[1])
		fuzz_check(strcmp(made[0], made[1]) == 0);
	if (!same_key && strcmp(databases[0], databases[1]) == 0 &&
		!redis_key_is_indexed(template))
		fuzz_check(strcmp(made[0], made[1]) != 0);
	if (strcmp(template, "distlock:{database}:{key}") == 0 &&
		strcmp(databases[0], databases[1]) != 0)
		fuzz_check(strcmp(made[0], made[1]) != 0);
	if (strcmp(template, "rueidislock:{index}:{key}") == 0 &&
		(!same_key || indexes[0] != indexes[1]))
		fuzz_check(strcmp(made[0], made[1]) != 0);
}

static void
check_template(const char *template)
{
	fuzz_check(count(template, "{key}") == 1);
	fuzz_check(count(template, "{database}") <= 1);
	fuzz_check(count(template, "{index}") <= 1);
	fuzz_check(redis_key_is_indexed(template) ==
			   (count(template, "{index}") == 1));
	fuzz_check(count(template, "{") == count(template, "}"));
	fuzz_check(count(template, "{") == count(template, "{key}") +
			   count(template, "{database}") + count(template, "{index}"));
}

static size_t
count(const char *template, const char *word)
{
	size_t		n = 0;

	while ((template = strstr(template, word)) != NULL)
	{
		n++;
		template += strlen(word);
	}
	return n;
}

static char *
make(const char *template, const char *database, const text *key, int index)
{
	StringInfoData out;

	initStringInfo(&out);
	redis_key_append(&out, template, database, key, index);
	fuzz_check(strlen(out.data) == out.len);
	return out.data;
}
