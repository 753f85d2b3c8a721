/*-------------------------------------------------------------------------
 *
 * redis_url.c
 *	  Fuzzes the list of addresses of Redis servers.
 *
 * sources: redis_url.c
 * lines: 95
 *
 * What is accepted is shown so that it is accepted again, as the same.  The
 * message about what is not must not show anything that comes before an "@": it
 * may have been meant as a password.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "redis_url.h"

static void check_address(const RedisAddress *address);
static void check_printable(const char *text);
static void check_user(const char *list, const RedisAddress *address);
static void check_shown(const RedisAddress *address);
static void check_no_password(const char *list, const char *problem);

void
fuzz_one(FuzzInput *input)
{
	char	   *list = fuzz_string(input);
	char	   *copy = pstrdup(list);
	RedisAddresses *addresses = palloc(sizeof(RedisAddresses));
	const char *hint = NULL;
	char	   *problem = redis_url_read(list, addresses, &hint);

	fuzz_check(strcmp(list, copy) == 0);
	fuzz_check(addresses->n >= 0 && addresses->n <= MAX_MIRRORS);
	if (problem != NULL)
	{
		fuzz_check(problem[0] != '\0');
		fuzz_check(hint == NULL || hint[0] != '\0');
		check_no_password(list, problem);
		return;
	}
	fuzz_check(hint == NULL);
	if (addresses->n == 1)
		check_user(list, &addresses->list[0]);
	for (int i = 0; i < addresses->n; i++)
	{
		check_address(&addresses->list[i]);
		check_shown(&addresses->list[i]);
		for (int k = 0; k < i; k++)
			fuzz_check(strcmp(addresses->list[i].shown,
							  addresses->list[k].shown) != 0);
	}
}

static void
check_address(const RedisAddress *address)
{
	fuzz_check(memchr(address->user, '\0', sizeof(address->user)) != NULL);
	fuzz_check(memchr(address->host, '\0', sizeof(address->host)) != NULL);
	fuzz_check(memchr(address->shown, '\0', sizeof(address->shown)) != NULL);
	fuzz_check(address->host[0] != '\0');
	fuzz_check(address->db >= 0 && address->db <= 65535);
	if (address->local)
	{
		fuzz_check(address->host[0] == '/' && strlen(address->host) < 108);
		fuzz_check(!address->tls);
	}
	else
	{
		/* It goes to getaddrinfo(), and into what people are shown. */
		fuzz_check(address->host[0] != '-');
		fuzz_check(address->port >= 1 && address->port <= 65535);
	}
	check_printable(address->user);
	check_printable(address->host);
	check_printable(address->shown);
}

static void
check_printable(const char *text)
{
	for (; *text != '\0'; text++)
		fuzz_check(*text >= ' ' && *text < 127);
}

/*
 * What comes before the last "@", whole.
 */
static void
check_user(const char *list, const RedisAddress *address)
{
	const char *begin = strstr(list, "://");
	const char *end = strrchr(list, '@');

	fuzz_check(begin != NULL);
	begin += 3;
	if (end == NULL)
		fuzz_check(address->user[0] == '\0');
	else if (memchr(begin, '%', end - begin) == NULL)
	{
		fuzz_check(strlen(address->user) == end - begin);
		fuzz_check(memcmp(address->user, begin, end - begin) == 0);
	}
}

/*
 * The paths of sockets are shown as they are, without %XX.
 */
static void
check_shown(const RedisAddress *address)
{
	RedisAddresses *again = palloc(sizeof(RedisAddresses));
	const char *hint = NULL;

	if (address->local && strpbrk(address->host, " ,%?@") != NULL)
		return;
	fuzz_check(redis_url_read(address->shown, again, &hint) == NULL);
	fuzz_check(again->n == 1);
	fuzz_check(strcmp(again->list[0].host, address->host) == 0);
	fuzz_check(strcmp(again->list[0].shown, address->shown) == 0);
	fuzz_check(again->list[0].tls == address->tls);
	fuzz_check(again->list[0].local == address->local);
	fuzz_check(again->list[0].db == address->db);
	fuzz_check(address->local || again->list[0].port == address->port);
}

/*
 * In the seeds and the dictionary it is this.
 */
static void
check_no_password(const char *list, const char *problem)
{
	const char *secret = strstr(list, ":s3cr3tpw@");

	if (secret != NULL && strchr(list, ',') == NULL)
		fuzz_check(strstr(problem, "s3cr3tpw") == NULL);
}
