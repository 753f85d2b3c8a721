/*-------------------------------------------------------------------------
 *
 * mirror_settings.h
 *	  The settings of the mirrors in Redis.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_MIRROR_SETTINGS_H
#define DISTLOCK_MIRROR_SETTINGS_H

#include "redis_url.h"

/* What stands in Redis. */
typedef enum MirrorValue
{
	MIRROR_VALUE_JSON,			/* fence, owner and expiry */
	MIRROR_VALUE_TOKEN
} MirrorValue;

/* distlock.redis_url */
extern const RedisAddresses *setting_redis_addresses;

/* distlock.redis_password_file, distlock.redis_ca_file: empty for none. */
extern char *setting_redis_password_file;
extern char *setting_redis_ca_file;

/* distlock.redis_key, as it was set; see redis_key_template(). */
extern char *setting_redis_key;

/* distlock.redis_majority: M of 2M-1 keys, where a lock has several. */
extern int	setting_redis_majority;

/* distlock.redis_value: a MirrorValue. */
extern int	setting_redis_value;

/* distlock.redis_timeout, in milliseconds. */
extern int	setting_redis_timeout;

/* distlock.redis_reconcile, in seconds. */
extern int	setting_redis_reconcile;

/* Call it from settings_define(). */
extern void mirror_settings_define(void);

/* By distlock.redis_prefixes: is a lock of this key mirrored? */
extern bool mirror_settings_want(const text *key);

/* All that a connection depends on, palloc'd: to see whether it has changed. */
extern char *mirror_settings_fingerprint(void);

#endif							/* DISTLOCK_MIRROR_SETTINGS_H */
