/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  Fuzzes the settings that are more than a number or a word of a list.
 *
 * sources: settings.c mirror_settings.c
 * with: redis_url.c redis_key.c
 * lines: 80
 *
 * They are set as PostgreSQL sets them: the check hook says yes or no, and the
 * value that was assigned last stays when it says no.  What a hook has allocated
 * for a value that is refused must be freed, or the leak detector finds it.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "access/twophase.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "mirror_settings.h"
#include "redis_key.h"
#include "settings.h"

typedef struct Setting
{
	const char *name;
	char	  **variable;
	GucStringCheckHook check;
	GucStringAssignHook assign;
	void	   *extra;
} Setting;

static Setting settings[16];
static int	num_settings = 0;
static int	num_others = 0;

bool		process_shared_preload_libraries_in_progress = false;
char	   *GUC_check_errmsg_string;
char	   *GUC_check_errdetail_string;
char	   *GUC_check_errhint_string;

static bool set(Setting *setting, const char *value);
static Setting *setting_of(const char *name);
static void try_prefixes(FuzzInput *input);
static void try_events(FuzzInput *input);
static void try_url(FuzzInput *input);
static void try_key(FuzzInput *input);

/* ------------------------------------------------------ what they call -- */

void
DefineCustomStringVariable(const char *name, const char *short_desc,
						   const char *long_desc, char **valueAddr,
						   const char *bootValue, GucContext context,
						   int flags, GucStringCheckHook check_hook,
						   GucStringAssignHook assign_hook,
						   GucShowHook show_hook)
{
	Setting    *setting = &settings[num_settings++];

	setting->name = name;
	setting->variable = valueAddr;
	setting->check = check_hook;
	setting->assign = assign_hook;
	fuzz_check(set(setting, bootValue));
}

void
DefineCustomIntVariable(const char *name, const char *short_desc,
						const char *long_desc, int *valueAddr, int bootValue,
						int minValue, int maxValue, GucContext context,
						int flags, GucIntCheckHook check_hook,
						GucIntAssignHook assign_hook, GucShowHook show_hook)
{
	fuzz_check(minValue <= bootValue && bootValue <= maxValue);
	fuzz_check(check_hook == NULL && assign_hook == NULL && show_hook == NULL);
	*valueAddr = bootValue;
	num_others++;
}

void
DefineCustomBoolVariable(const char *name, const char *short_desc,
						 const char *long_desc, bool *valueAddr,
						 bool bootValue, GucContext context, int flags,
						 GucBoolCheckHook check_hook,
						 GucBoolAssignHook assign_hook, GucShowHook show_hook)
{
	fuzz_check(check_hook == NULL && assign_hook == NULL && show_hook == NULL);
	*valueAddr = bootValue;
	num_others++;
}

void
DefineCustomEnumVariable(const char *name, const char *short_desc,
						 const char *long_desc, int *valueAddr, int bootValue,
						 const struct config_enum_entry *options,
						 GucContext context, int flags,
						 GucEnumCheckHook check_hook,
						 GucEnumAssignHook assign_hook, GucShowHook show_hook)
{
	fuzz_check(check_hook == NULL && assign_hook == NULL && show_hook == NULL);
	*valueAddr = bootValue;
	num_others++;
}

void
MarkGUCPrefixReserved(const char *className)
{
	fuzz_check(strcmp(className, "distlock") == 0);
}

/* The texts of GUC_check_errdetail() and the like go to the error. */
void
pre_format_elog_string(int errnumber, const char *domain)
{
}

char *
format_elog_string(const char *format,...)
{
	va_list		args;
	static char text[8192];

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fuzz_check(text[0] != '\0');
	return text;
}

#if PG_VERSION_NUM >= 160000
void *
guc_malloc(int elevel, size_t size)
{
	return malloc(size);
}

void
guc_free(void *pointer)
{
	free(pointer);
}
#endif

/*
 * Words and "words", separated by commas, as PostgreSQL's lists are: a doubled
 * quotation mark stands for one.  Identifiers are made lower case.
 */
static bool
split(char *text, bool identifiers, List **names)
{
	char	   *next = text;

	*names = NIL;
	while (*next != '\0' && strchr(" \t\n\r\f\v", *next) != NULL)
		next++;
	if (*next == '\0')
		return true;
	for (;;)
	{
		char	   *word = next;
		char	   *out = next;

		if (*next == '"')
		{
			word = out = ++next;
			while (*next != '"' || next[1] == '"')
			{
				if (*next == '\0')
					return false;
				next += *next == '"' ? 2 : 1;
				*out++ = next[-1];
			}
			next++;
		}
		else
		{
			while (*next != '\0' && *next != ',' &&
				   strchr(" \t\n\r\f\v", *next) == NULL)
			{
				*out++ = identifiers ? pg_tolower((unsigned char) *next) : *next;
				next++;
			}
			if (out == word)
				return false;
		}
		while (*next != '\0' && strchr(" \t\n\r\f\v", *next) != NULL)
			next++;
		if (*next != ',' && *next != '\0')
			return false;
		*names = lappend(*names, word);
		if (*next == '\0')
		{
			*out = '\0';
			return true;
		}
		next++;
		*out = '\0';
		while (*next != '\0' && strchr(" \t\n\r\f\v", *next) != NULL)
			next++;
	}
}

bool
SplitIdentifierString(char *rawstring, char separator, List **namelist)
{
	fuzz_check(separator == ',');
	return split(rawstring, true, namelist);
}

bool
SplitGUCList(char *rawstring, char separator, List **namelist)
{
	fuzz_check(separator == ',');
	return split(rawstring, false, namelist);
}

/* ------------------------------------------------------------------- runs -- */

static bool
set(Setting *setting, const char *value)
{
	char	   *copy = strdup(value);
	void	   *extra = NULL;

	GUC_check_errmsg_string = NULL;
	GUC_check_errdetail_string = NULL;
	GUC_check_errhint_string = NULL;
	if (setting->check != NULL &&
		!setting->check(&copy, &extra, PGC_S_SESSION))
	{
		/* No refusal without a reason. */
		fuzz_check(GUC_check_errdetail_string != NULL);
		fuzz_check(extra == NULL);
		free(copy);
		return false;
	}
	if (setting->assign != NULL)
		setting->assign(copy, extra);
	free(*setting->variable);
	*setting->variable = copy;
	free(setting->extra);
	setting->extra = extra;
	return true;
}

static Setting *
setting_of(const char *name)
{
	for (int i = 0; i < num_settings; i++)
	{
		if (strcmp(settings[i].name, name) == 0)
			return &settings[i];
	}
	fuzz_fail(__FILE__, __LINE__, name);
}

void
fuzz_one(FuzzInput *input)
{
	if (num_settings == 0)
	{
		settings_define();
		fuzz_check(num_settings >= 5 && num_others >= 10);
	}
	for (int i = 0; i < 4 && input->length > 0; i++)
	{
		switch (fuzz_up_to(input, 3))
		{
			case 0:
				try_prefixes(input);
				break;
			case 1:
				try_events(input);
				break;
			case 2:
				try_url(input);
				break;
			default:
				try_key(input);
		}
	}
}

/*
 * A key is mirrored if and only if a prefix in the list is one of its.
 */
static void
try_prefixes(FuzzInput *input)
{
	char	   *value = fuzz_string(input);
	char	   *key_bytes = fuzz_string(input);
	size_t		length = strlen(key_bytes);
	text	   *key = palloc(length + VARHDRSZ);
	char	   *before = mirror_settings_fingerprint();
	List	   *names;
	ListCell   *cell;
	bool		wanted = false;

	SET_VARSIZE(key, length + VARHDRSZ);
	memcpy(VARDATA(key), key_bytes, length);
	if (!set(setting_of("distlock.redis_prefixes"), value))
	{
		fuzz_check(strcmp(before, mirror_settings_fingerprint()) == 0);
		return;
	}
	fuzz_check(split(value, false, &names));
	foreach(cell, names)
	{
		if (strncmp(key_bytes, lfirst(cell), strlen(lfirst(cell))) == 0)
			wanted = true;
	}
	fuzz_check(mirror_settings_want(key) == (wanted || names == NIL));
}

static void
try_events(FuzzInput *input)
{
	static const char *const names[] = {"granted", "extended", "released",
	"expired", "forced"};
	int			before = setting_events;
	char	   *value = fuzz_string(input);
	int			bits = 0;
	StringInfoData printed;

	if (!set(setting_of("distlock.events"), value))
	{
		fuzz_check(setting_events == before);
		return;
	}
	bits = setting_events;
	fuzz_check((bits & ~31) == 0);

	/* Written out, it is the same. */
	initStringInfo(&printed);
	for (int i = 0; i < lengthof(names); i++)
	{
		if ((bits & (1 << i)) != 0)
			appendStringInfo(&printed, "%s%s", printed.len > 0 ? ", " : "",
							 names[i]);
	}
	fuzz_check(set(setting_of("distlock.events"), printed.data));
	fuzz_check(setting_events == bits);
}

static void
try_url(FuzzInput *input)
{
	const RedisAddresses *before = setting_redis_addresses;
	int			n = before->n;

	if (set(setting_of("distlock.redis_url"), fuzz_string(input)))
	{
		fuzz_check(setting_redis_addresses->n <= MAX_MIRRORS);
		/* Without TLS, as here, that is refused. */
		for (int i = 0; i < setting_redis_addresses->n; i++)
			fuzz_check(!setting_redis_addresses->list[i].tls);
	}
	else
		fuzz_check(setting_redis_addresses == before && before->n == n);
}

static void
try_key(FuzzInput *input)
{
	char	   *value = fuzz_string(input);

	fuzz_check(set(setting_of("distlock.redis_key"), value) ==
			   (redis_key_check_template(value) == NULL));
	fuzz_check(redis_key_check_template(setting_redis_key) == NULL);
}
