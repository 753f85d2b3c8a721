/*-------------------------------------------------------------------------
 *
 * redis_url.c
 *	  Addresses of Redis servers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/un.h>

#include "redis_url.h"

#define MAX_DB 65535

static char *read_one(char *url, RedisAddress *address, const char **hint);
static char *read_local(char *rest, RedisAddress *address);
static char *read_tcp(char *rest, RedisAddress *address);
static char *take_user(char **rest, RedisAddress *address, const char **hint);
static bool decode(char *word);
static bool read_number(const char *text, int max, int *number);
static char *trim(char *word);

char *
redis_url_read(const char *text, RedisAddresses *addresses, const char **hint)
{
	char	   *copy = pstrdup(text);
	char	   *next = copy;

	addresses->n = 0;
	if (*trim(copy) == '\0')
		return NULL;
	while (next != NULL)
	{
		char	   *url = next;
		char	   *problem;

		next = strchr(url, ',');
		if (next != NULL)
			*next++ = '\0';
		if (addresses->n == MAX_MIRRORS)
			return psprintf("More than %d mirrors are not possible.",
							MAX_MIRRORS);
		problem = read_one(trim(url), &addresses->list[addresses->n], hint);
		if (problem != NULL)
			return problem;
		for (int i = 0; i < addresses->n; i++)
		{
			if (strcmp(addresses->list[i].shown,
					   addresses->list[addresses->n].shown) == 0)
				return psprintf("\"%s\" is there twice.",
								addresses->list[i].shown);
		}
		addresses->n++;
	}
	return NULL;
}

static char *
read_one(char *url, RedisAddress *address, const char **hint)
{
	static const struct
	{
		const char *scheme;
		bool		tls;
		bool		local;
	}			schemes[] = {
		{"redis://", false, false},
		{"rediss://", true, false},
		{"unix://", false, true},
	};
	char	   *problem;

	memset(address, 0, sizeof(RedisAddress));
	address->port = REDIS_DEFAULT_PORT;
	for (const char *c = url; *c != '\0'; c++)
	{
		if ((unsigned char) *c <= ' ' || (unsigned char) *c >= 127)
			return pstrdup("An address consists of printable ASCII characters, without spaces.");
	}
	for (int i = 0; i < lengthof(schemes); i++)
	{
		char	   *rest = url + strlen(schemes[i].scheme);

		if (pg_strncasecmp(url, schemes[i].scheme,
						   strlen(schemes[i].scheme)) != 0)
			continue;
		address->tls = schemes[i].tls;
		address->local = schemes[i].local;
		problem = take_user(&rest, address, hint);
		if (problem != NULL)
			return problem;
		return address->local ? read_local(rest, address) :
			read_tcp(rest, address);
	}
	*hint = "An address looks like redis://host:6379/0, rediss://host or unix:///path.";
	return pstrdup("An address begins with redis://, rediss:// or unix://.");
}

static char *
read_local(char *rest, RedisAddress *address)
{
	char	   *query = strchr(rest, '?');

	if (query != NULL)
	{
		*query++ = '\0';
		if (strncmp(query, "db=", 3) != 0 ||
			!read_number(query + 3, MAX_DB, &address->db))
			return psprintf("After the path there can only be ?db= and a number up to %d.",
							MAX_DB);
	}
	if (!decode(rest) || rest[0] != '/')
		return pstrdup("The path of a socket begins with a slash.");
	if (strlen(rest) >= sizeof(((struct sockaddr_un *) NULL)->sun_path))
		return pstrdup("The path of the socket is too long.");
	strlcpy(address->host, rest, sizeof(address->host));
	snprintf(address->shown, sizeof(address->shown),
			 address->db != 0 ? "unix://%s?db=%d" : "unix://%s",
			 address->host, address->db);
	return NULL;
}

static char *
read_tcp(char *rest, RedisAddress *address)
{
	char	   *host = rest;
	char	   *db = strchr(rest, '/');
	char	   *port = NULL;
	bool		in_brackets = rest[0] == '[';

	if (db != NULL)
	{
		*db++ = '\0';
		if (*db != '\0' && !read_number(db, MAX_DB, &address->db))
			return psprintf("After the slash there can only be the number of a database, up to %d.",
							MAX_DB);
	}
	if (in_brackets)
	{
		char	   *end = strchr(rest, ']');

		if (end == NULL || (end[1] != '\0' && end[1] != ':'))
			return pstrdup("An IPv6 address stands in brackets.");
		host = rest + 1;
		*end = '\0';
		if (end[1] == ':')
			port = end + 2;
	}
	else
	{
		port = strchr(rest, ':');
		if (port != NULL)
			*port++ = '\0';
		if (port != NULL && strchr(port, ':') != NULL)
			return pstrdup("An IPv6 address stands in brackets.");
	}
	if (port != NULL &&
		(!read_number(port, 65535, &address->port) || address->port == 0))
		return pstrdup("A port is a number from 1 to 65535.");
	if (host[0] == '\0')
		return pstrdup("The name of the host is missing.");
	if (strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			   "0123456789-._:%") != strlen(host) ||
		strlen(host) >= sizeof(address->host) || host[0] == '-')
		return psprintf("\"%s\" is not the name or address of a host.", host);
	strlcpy(address->host, host, sizeof(address->host));
	snprintf(address->shown, sizeof(address->shown),
			 in_brackets ? "%s://[%s]:%d/%d" : "%s://%s:%d/%d",
			 address->tls ? "rediss" : "redis", address->host, address->port,
			 address->db);
	return NULL;
}

static char *
take_user(char **rest, RedisAddress *address, const char **hint)
{
	char	   *at = strrchr(*rest, '@');
	char	   *user = *rest;

	if (at == NULL)
		return NULL;
	*at = '\0';
	*rest = at + 1;
	if (strchr(user, ':') != NULL)
	{
		*hint = "Write it into a file, and set distlock.redis_password_file to that.";
		return pstrdup("An address has no place for a password.");
	}
	if (!decode(user) || strlen(user) >= sizeof(address->user))
		return pstrdup("The name of the user is not valid.");
	strlcpy(address->user, user, sizeof(address->user));
	return NULL;
}

/*
 * Replace %XX in place; false when that is not what follows a percent sign, or
 * not a printable character of ASCII.
 */
static bool
decode(char *word)
{
	char	   *out = word;

	for (; *word != '\0'; word++)
	{
		char		digits[3] = {0};

		if (*word != '%')
		{
			*out++ = *word;
			continue;
		}
		memcpy(digits, word + 1, strnlen(word + 1, 2));
		if (strspn(digits, "0123456789abcdefABCDEF") != 2)
			return false;
		*out = (char) strtol(digits, NULL, 16);
		if (*out < ' ' || *out >= 127)
			return false;
		out++;
		word += 2;
	}
	*out = '\0';
	return true;
}

static bool
read_number(const char *text, int max, int *number)
{
	size_t		length = strlen(text);

	if (length == 0 || length > 5 || strspn(text, "0123456789") != length)
		return false;
	*number = atoi(text);
	return *number <= max;
}

static char *
trim(char *word)
{
	size_t		length;

	while (*word == ' ' || *word == '\t')
		word++;
	length = strlen(word);
	while (length > 0 && (word[length - 1] == ' ' || word[length - 1] == '\t'))
		word[--length] = '\0';
	return word;
}
