/*-------------------------------------------------------------------------
 *
 * mirror_settings.c
 *	  The settings of the mirrors in Redis.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"
#include "utils/varlena.h"

#include "distlock.h"
#include "mirror_settings.h"
#include "redis_key.h"
#include "text_bytes.h"

static const RedisAddresses no_addresses = {0};

const RedisAddresses *setting_redis_addresses = &no_addresses;
char	   *setting_redis_password_file;
char	   *setting_redis_ca_file;
char	   *setting_redis_key;
int			setting_redis_majority = 2;
int			setting_redis_value = MIRROR_VALUE_JSON;
int			setting_redis_timeout = 1000;
int			setting_redis_reconcile = 300;

static char *url;
static char *prefixes;

/* Strings one after the other, and an empty one at the end. */
static const char *wanted_prefixes = "";

static const struct config_enum_entry values[] = {
	{"json", MIRROR_VALUE_JSON, false},
	{"token", MIRROR_VALUE_TOKEN, false},
	{NULL, 0, false}
};

static bool check_url(char **new_value, void **extra, GucSource source);
static void assign_url(const char *new_value, void *extra);
static bool check_key(char **new_value, void **extra, GucSource source);
static bool check_prefixes(char **new_value, void **extra, GucSource source);
static void assign_prefixes(const char *new_value, void *extra);

void
mirror_settings_define(void)
{
	DefineCustomStringVariable("distlock.redis_url",
							   "Sets the Redis servers in which locks are mirrored.",
							   "A list of redis://[user@]host[:port][/db], rediss://... and unix://[user@]/path[?db=number].",
							   &url,
							   "",
							   PGC_SUSET,
							   GUC_SUPERUSER_ONLY,
							   check_url, assign_url, NULL);

	DefineCustomStringVariable("distlock.redis_password_file",
							   "Sets the file that has the password for Redis in its first line.",
							   "Nobody but the server's user may have access to it.",
							   &setting_redis_password_file,
							   "",
							   PGC_SUSET,
							   GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);

	DefineCustomStringVariable("distlock.redis_ca_file",
							   "Sets the file with the certificates of the authorities that are trusted for rediss://.",
							   "Empty means those that the system trusts.",
							   &setting_redis_ca_file,
							   "",
							   PGC_SUSET,
							   GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);

	DefineCustomStringVariable("distlock.redis_key",
							   "Sets how the locks are called in Redis.",
							   "A text with {key}, and with {database} and {index} if need be; or the name of a profile, plain or rueidislock.",
							   &setting_redis_key,
							   "distlock:{database}:{key}",
							   PGC_SUSET,
							   0,
							   check_key, NULL, NULL);

	DefineCustomIntVariable("distlock.redis_majority",
							"Sets how many keys of a lock are a majority, where distlock.redis_key has {index}.",
							"Of so many, less one, and so many more, each lock gets one.",
							&setting_redis_majority,
							2, 1, 7,
							PGC_SUSET,
							0,
							NULL, NULL, NULL);

	DefineCustomStringVariable("distlock.redis_prefixes",
							   "Sets which locks are mirrored, by how their keys begin.",
							   "Empty means all.",
							   &prefixes,
							   "",
							   PGC_SUSET,
							   GUC_LIST_INPUT,
							   check_prefixes, assign_prefixes, NULL);

	DefineCustomEnumVariable("distlock.redis_value",
							 "Sets what Redis shows of a lock.",
							 "json is fence, owner and expiry; token is the token, which is a secret.",
							 &setting_redis_value,
							 MIRROR_VALUE_JSON, values,
							 PGC_SUSET,
							 0,
							 NULL, NULL, NULL);

	DefineCustomIntVariable("distlock.redis_timeout",
							"Sets how long the worker waits for anything from Redis.",
							NULL,
							&setting_redis_timeout,
							1000, 10, 60000,
							PGC_SUSET,
							GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("distlock.redis_reconcile",
							"Sets how often all locks are compared with what Redis has.",
							"That is also done after each connection.",
							&setting_redis_reconcile,
							300, 1, INT_MAX / 1000,
							PGC_SUSET,
							GUC_UNIT_S,
							NULL, NULL, NULL);
}

bool
mirror_settings_want(const text *key)
{
	size_t		length = text_size(key);

	if (*wanted_prefixes == '\0')
		return true;
	for (const char *prefix = wanted_prefixes; *prefix != '\0';
		 prefix += strlen(prefix) + 1)
	{
		if (strlen(prefix) <= length &&
			memcmp(text_bytes(key), prefix, strlen(prefix)) == 0)
			return true;
	}
	return false;
}

char *
mirror_settings_fingerprint(void)
{
	return psprintf("%s\n%s\n%s\n%s\n%d\n%s\n%d", url,
					setting_redis_password_file, setting_redis_ca_file,
					setting_redis_key, setting_redis_majority, prefixes,
					setting_redis_value);
}

static bool
check_url(char **new_value, void **extra, GucSource source)
{
	RedisAddresses *addresses = compat_guc_alloc(sizeof(RedisAddresses));
	const char *hint = NULL;
	char	   *problem;

	if (addresses == NULL)
		return false;
	problem = redis_url_read(*new_value, addresses, &hint);
#ifndef DISTLOCK_WITH_REDIS
	if (addresses->n > 0)
		problem = pstrdup("This distlock was built without Redis.");
#endif
#ifndef DISTLOCK_WITH_TLS
	for (int i = 0; i < addresses->n && problem == NULL; i++)
	{
		if (addresses->list[i].tls)
			problem = pstrdup("This distlock was built without TLS for Redis.");
	}
#endif
	if (problem != NULL)
	{
		/* Without the value, which may have a password in it. */
		GUC_check_errmsg("invalid value for parameter \"%s\"",
						 "distlock.redis_url");
		GUC_check_errdetail("%s", problem);
		if (hint != NULL)
			GUC_check_errhint("%s", hint);
		compat_guc_free(addresses);
		return false;
	}
	*extra = addresses;
	return true;
}

static void
assign_url(const char *new_value, void *extra)
{
	setting_redis_addresses = extra;
}

static bool
check_key(char **new_value, void **extra, GucSource source)
{
	const char *problem = redis_key_check_template(*new_value);

	if (problem == NULL)
		return true;
	GUC_check_errdetail("%s", problem);
	GUC_check_errhint("A template looks like distlock:{database}:{key}.  Profiles are plain and rueidislock.");
	return false;
}

static bool
check_prefixes(char **new_value, void **extra, GucSource source)
{
	char	   *list = pstrdup(*new_value);
	List	   *names;
	ListCell   *cell;
	char	   *packed;

	if (!SplitGUCList(list, ',', &names))
	{
		GUC_check_errdetail("List syntax is invalid.");
		return false;
	}
	foreach(cell, names)
	{
		if (*(char *) lfirst(cell) == '\0' ||
			strlen(lfirst(cell)) > KEY_MAX_BYTES)
		{
			GUC_check_errdetail("A prefix has 1 to %d bytes.", KEY_MAX_BYTES);
			return false;
		}
	}

	/* Unpacked, it has a separator at least for each that is packed. */
	packed = compat_guc_alloc(strlen(*new_value) + 2);
	if (packed == NULL)
		return false;
	*extra = packed;
	foreach(cell, names)
	{
		strcpy(packed, lfirst(cell));
		packed += strlen(packed) + 1;
	}
	*packed = '\0';
	return true;
}

static void
assign_prefixes(const char *new_value, void *extra)
{
	wanted_prefixes = extra;
}
