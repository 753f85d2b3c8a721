/*-------------------------------------------------------------------------
 *
 * redis_tls.c
 *	  TLS for connections to Redis, where hiredis has it.
 *
 * The session is made here and not by hiredis, which would not compare the name
 * of the server with that in its certificate.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "redis_tls.h"

#ifdef DISTLOCK_WITH_TLS

#include <hiredis/hiredis.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "utils/memutils.h"

struct RedisTls
{
	SSL_CTX    *context;
	SSL		   *session;		/* belongs to hiredis */
};

static bool set_up(RedisTls *tls, const char *host, const char *ca_file);

RedisTls *
redis_tls_begin(redisContext *context, const char *host, const char *ca_file,
				char *error, size_t size)
{
	RedisTls   *tls = MemoryContextAllocZero(TopMemoryContext, sizeof(RedisTls));

	ERR_clear_error();
	if (!set_up(tls, host, ca_file))
	{
		unsigned long code = ERR_get_error();

		snprintf(error, size, "could not set up TLS: %s",
				 code != 0 ? ERR_reason_error_string(code) : "no reason given");
		SSL_free(tls->session);
		tls->session = NULL;
	}
	else if (redisInitiateSSL(context, tls->session) != REDIS_OK)
	{
		/* It is ours still. */
		snprintf(error, size, "could not begin TLS: %s", context->errstr);
		SSL_free(tls->session);
		tls->session = NULL;
	}
	if (tls->session != NULL)
		return tls;
	redis_tls_end(tls);
	return NULL;
}

bool
redis_tls_may_write(const RedisTls *tls)
{
	return tls == NULL || SSL_is_init_finished(tls->session) ||
		!SSL_want_read(tls->session);
}

void
redis_tls_prepare(RedisTls *tls)
{
	if (tls != NULL)
		ERR_clear_error();
}

const char *
redis_tls_error(const RedisTls *tls)
{
	long		verified;
	unsigned long code = ERR_peek_last_error();

	if (tls == NULL)
		return NULL;
	verified = SSL_get_verify_result(tls->session);
	if (verified != X509_V_OK)
		return X509_verify_cert_error_string(verified);
	return code != 0 ? ERR_reason_error_string(code) : NULL;
}

void
redis_tls_end(RedisTls *tls)
{
	if (tls == NULL)
		return;
	SSL_CTX_free(tls->context);
	pfree(tls);
}

static bool
set_up(RedisTls *tls, const char *host, const char *ca_file)
{
	X509_VERIFY_PARAM *param;

	tls->context = SSL_CTX_new(TLS_client_method());
	if (tls->context == NULL ||
		!SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION))
		return false;
	SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
	if (ca_file[0] != '\0' ?
		!SSL_CTX_load_verify_locations(tls->context, ca_file, NULL) :
		!SSL_CTX_set_default_verify_paths(tls->context))
		return false;

	tls->session = SSL_new(tls->context);
	if (tls->session == NULL)
		return false;
	param = SSL_get0_param(tls->session);
	if (X509_VERIFY_PARAM_set1_ip_asc(param, host))
		return true;
	ERR_clear_error();
	return X509_VERIFY_PARAM_set1_host(param, host, 0) &&
		SSL_set_tlsext_host_name(tls->session, host);
}

#else							/* without TLS */

RedisTls *
redis_tls_begin(struct redisContext *context, const char *host,
				const char *ca_file, char *error, size_t size)
{
	strlcpy(error, "this distlock was built without TLS for Redis", size);
	return NULL;
}

bool
redis_tls_may_write(const RedisTls *tls)
{
	return true;
}

void
redis_tls_prepare(RedisTls *tls)
{
}

const char *
redis_tls_error(const RedisTls *tls)
{
	return NULL;
}

void
redis_tls_end(RedisTls *tls)
{
}

#endif
