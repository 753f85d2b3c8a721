/*-------------------------------------------------------------------------
 *
 * redis_tls.h
 *	  TLS for connections to Redis, where hiredis has it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISTLOCK_REDIS_TLS_H
#define DISTLOCK_REDIS_TLS_H

typedef struct RedisTls RedisTls;

struct redisContext;

/*
 * Speak TLS on a connection of hiredis.  The server has to have a certificate
 * for this host from an authority in the file, or, if that is empty, from one
 * that the system trusts.  NULL when it cannot begin, with the reason in
 * error; whether the server is who it should be comes out when reading.
 */
extern RedisTls *redis_tls_begin(struct redisContext *context,
								 const char *host, const char *ca_file,
								 char *error, size_t size);

/* Can anything be written, or is it the server's turn?  Without TLS it can. */
extern bool redis_tls_may_write(const RedisTls *tls);

/*
 * Before hiredis reads or writes: forget what went wrong with other connections,
 * which it would take for an error of this one.
 */
extern void redis_tls_prepare(RedisTls *tls);

/* Why the server was not accepted, or what else is known; NULL for nothing. */
extern const char *redis_tls_error(const RedisTls *tls);

/* When the connection has been freed. */
extern void redis_tls_end(RedisTls *tls);

#endif							/* DISTLOCK_REDIS_TLS_H */
