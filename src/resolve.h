/*-------------------------------------------------------------------------
 *
 * resolve.h
 *	  Names of hosts to addresses, without waiting.
 *
 * The C library has no call for that which could not hang, so that a child
 * process does it, and writes what it has found into a pipe.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_RESOLVE_H
#define DISTLOCK_RESOLVE_H

/* As text, with the zone of a link-local IPv6 address. */
#define RESOLVED_SIZE 64

/* Of a host with more addresses, the others are not tried. */
#define MAX_RESOLVED 8

typedef struct Resolver
{
	int			pid;			/* of the child; 0: none */
	int			fd;				/* to read from; -1: none */
	int			length;
	char		answer[MAX_RESOLVED * RESOLVED_SIZE + 128];
	int			n;				/* what was found */
	char		addresses[MAX_RESOLVED][RESOLVED_SIZE];
	char		error[128];		/* or why nothing was */
} Resolver;

/*
 * Begin; the child gives up by itself after so many seconds.  True when it is
 * done already, as of numeric addresses and when no child can be started.
 */
extern bool resolve_begin(Resolver *resolver, const char *host, int timeout);

/* Go on when "fd" can be read; true when it is done. */
extern bool resolve_step(Resolver *resolver);

/* End it, done or not. */
extern void resolve_end(Resolver *resolver);

#endif							/* DISTLOCK_RESOLVE_H */
