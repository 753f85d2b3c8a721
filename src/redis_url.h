/*-------------------------------------------------------------------------
 *
 * redis_url.h
 *	  Addresses of Redis servers.
 *
 *	  redis://[user@]host[:port][/db]		TCP
 *	  rediss://[user@]host[:port][/db]		TLS
 *	  unix://[user@]/path[?db=number]		a socket of this machine
 *
 * User and path may have characters as %XX.  There is no place for a password:
 * settings are no place for secrets.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_REDIS_URL_H
#define DISTLOCK_REDIS_URL_H

#include "distlock.h"

#define REDIS_DEFAULT_PORT 6379

typedef struct RedisAddress
{
	bool		tls;
	bool		local;			/* a socket: "host" is its path */
	char		user[128];		/* empty: none */
	char		host[256];
	int			port;
	int			db;
	char		shown[MIRROR_NAME_SIZE];	/* without the user */
} RedisAddress;

typedef struct RedisAddresses
{
	int			n;
	RedisAddress list[MAX_MIRRORS];
} RedisAddresses;

/*
 * Read a list of addresses, separated by commas.  NULL when that went well, or
 * else what is wrong with it, palloc'd; *hint may be set then.
 */
extern char *redis_url_read(const char *text, RedisAddresses *addresses,
							const char **hint);

#endif							/* DISTLOCK_REDIS_URL_H */
