/*-------------------------------------------------------------------------
 *
 * lease_sql.c
 *	  SQL functions that change and look at locks.
 *
 * What they mean is documented in docs/reference.md and in the install script.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "arguments.h"
#include "compat.h"
#include "duration.h"
#include "errors.h"
#include "key.h"
#include "lease.h"
#include "not_granted.h"

/* What an argument of zero microseconds cannot mean. */
#define TTL_AS_BEFORE 0

static bool acquire(FunctionCallInfo fcinfo, bool with_token, bool raise,
					Grant *grant);
static bool extend(FunctionCallInfo fcinfo, bool only_longer, bool raise,
				   TimestampTz *expires_at);
static bool release(FunctionCallInfo fcinfo, bool raise);

DISTLOCK_FUNCTION(distlock_acquire);
DISTLOCK_FUNCTION(distlock_try_acquire);
DISTLOCK_FUNCTION(distlock_acquire_with_token);
DISTLOCK_FUNCTION(distlock_try_acquire_with_token);
DISTLOCK_FUNCTION(distlock_extend);
DISTLOCK_FUNCTION(distlock_try_extend);
DISTLOCK_FUNCTION(distlock_ensure);
DISTLOCK_FUNCTION(distlock_try_ensure);
DISTLOCK_FUNCTION(distlock_extend_all);
DISTLOCK_FUNCTION(distlock_release);
DISTLOCK_FUNCTION(distlock_try_release);
DISTLOCK_FUNCTION(distlock_release_all);
DISTLOCK_FUNCTION(distlock_ttl);
DISTLOCK_FUNCTION(distlock_fence);
DISTLOCK_FUNCTION(distlock_guard);
DISTLOCK_FUNCTION(distlock_is_held);
DISTLOCK_FUNCTION(distlock_key_id);
DISTLOCK_FUNCTION(distlock_force_release);
DISTLOCK_FUNCTION(distlock_force_acquire);

Datum
distlock_acquire(PG_FUNCTION_ARGS)
{
	Grant		grant;

	acquire(fcinfo, false, true, &grant);
	PG_RETURN_TEXT_P(grant.token);
}

Datum
distlock_try_acquire(PG_FUNCTION_ARGS)
{
	Grant		grant;

	if (!acquire(fcinfo, false, false, &grant))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(grant.token);
}

Datum
distlock_acquire_with_token(PG_FUNCTION_ARGS)
{
	Grant		grant;

	acquire(fcinfo, true, true, &grant);
	PG_RETURN_INT64(grant.fence);
}

Datum
distlock_try_acquire_with_token(PG_FUNCTION_ARGS)
{
	Grant		grant;

	if (!acquire(fcinfo, true, false, &grant))
		PG_RETURN_NULL();
	PG_RETURN_INT64(grant.fence);
}

Datum
distlock_extend(PG_FUNCTION_ARGS)
{
	TimestampTz expires_at;

	extend(fcinfo, false, true, &expires_at);
	PG_RETURN_TIMESTAMPTZ(expires_at);
}

Datum
distlock_try_extend(PG_FUNCTION_ARGS)
{
	TimestampTz expires_at;

	if (!extend(fcinfo, false, false, &expires_at))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(expires_at);
}

Datum
distlock_ensure(PG_FUNCTION_ARGS)
{
	TimestampTz expires_at;

	extend(fcinfo, true, true, &expires_at);
	PG_RETURN_TIMESTAMPTZ(expires_at);
}

Datum
distlock_try_ensure(PG_FUNCTION_ARGS)
{
	TimestampTz expires_at;

	if (!extend(fcinfo, true, false, &expires_at))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(expires_at);
}

Datum
distlock_extend_all(PG_FUNCTION_ARGS)
{
	text	   *token = argument_token(fcinfo, 0);
	int64		ttl = argument_ttl(fcinfo, 1);

	PG_RETURN_INT32(lease_extend_all(token, ttl));
}

Datum
distlock_release(PG_FUNCTION_ARGS)
{
	release(fcinfo, true);
	PG_RETURN_VOID();
}

Datum
distlock_try_release(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(release(fcinfo, false));
}

Datum
distlock_release_all(PG_FUNCTION_ARGS)
{
	text	   *token = argument_token(fcinfo, 0);

	PG_RETURN_INT32(lease_release_all(token));
}

Datum
distlock_ttl(PG_FUNCTION_ARGS)
{
	LockKey		key;
	text	   *token;
	int64		remaining;

	argument_key(fcinfo, 0, &key);
	token = argument_token(fcinfo, 1);
	if (!lease_read_ttl(&key, token, &remaining))
		PG_RETURN_NULL();
	PG_RETURN_INTERVAL_P(duration_to_interval(remaining));
}

Datum
distlock_fence(PG_FUNCTION_ARGS)
{
	LockKey		key;
	text	   *token;
	int64		fence;

	argument_key(fcinfo, 0, &key);
	token = argument_token(fcinfo, 1);
	if (!lease_read_fence(&key, token, &fence))
		PG_RETURN_NULL();
	PG_RETURN_INT64(fence);
}

Datum
distlock_guard(PG_FUNCTION_ARGS)
{
	LockKey		key;
	text	   *token;
	int64		fence;

	argument_key(fcinfo, 0, &key);
	token = argument_token(fcinfo, 1);
	if (!lease_guard(&key, token, &fence))
		error_not_held(&key);
	PG_RETURN_INT64(fence);
}

Datum
distlock_is_held(PG_FUNCTION_ARGS)
{
	LockKey		key;

	argument_key(fcinfo, 0, &key);
	PG_RETURN_BOOL(lease_is_held(&key));
}

Datum
distlock_key_id(PG_FUNCTION_ARGS)
{
	LockKey		key;

	argument_key(fcinfo, 0, &key);
	PG_RETURN_INT64((int64) key.hash);
}

Datum
distlock_force_release(PG_FUNCTION_ARGS)
{
	LockKey		key;

	argument_key(fcinfo, 0, &key);
	PG_RETURN_BOOL(lease_force_release(&key));
}

Datum
distlock_force_acquire(PG_FUNCTION_ARGS)
{
	AcquireRequest request = {0};
	Grant		grant;

	argument_key(fcinfo, 0, &request.key);
	request.ttl = argument_ttl(fcinfo, 1);
	request.scope = argument_scope(fcinfo, 2);
	if (request.scope == SCOPE_TRANSACTION)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a lock cannot be taken over with scope \"transaction\""),
				 errhint("Use scope \"lease\" or \"session\", or release it by force first.")));
	request.owner = argument_text(fcinfo, 3, "owner", OWNER_MAX_BYTES);
	request.data = argument_text(fcinfo, 4, "data", DATA_MAX_BYTES);
	lease_force_acquire(&request, &grant);
	PG_RETURN_TEXT_P(grant.token);
}

/*
 * The four ways to acquire have the same arguments, but for the token.
 */
static bool
acquire(FunctionCallInfo fcinfo, bool with_token, bool raise, Grant *grant)
{
	AcquireRequest request = {0};
	Refusal		refusal = {0};
	int			number = 0;

	argument_key(fcinfo, number++, &request.key);
	if (with_token)
		request.token = argument_token(fcinfo, number++);
	request.ttl = argument_ttl(fcinfo, number++);
	request.wait = argument_wait(fcinfo, number++);
	request.scope = argument_scope(fcinfo, number++);
	request.want_fence = with_token;
	request.owner = argument_text(fcinfo, number++, "owner", OWNER_MAX_BYTES);
	request.data = argument_text(fcinfo, number++, "data", DATA_MAX_BYTES);
	request.retry = argument_retry(fcinfo, number++);

	if (lease_acquire(&request, grant, &refusal))
		return true;
	if (raise)
		error_not_granted(&request.key, &refusal);
	return false;
}

static bool
extend(FunctionCallInfo fcinfo, bool only_longer, bool raise,
	   TimestampTz *expires_at)
{
	LockKey		key;
	text	   *token;
	int64		ttl;

	argument_key(fcinfo, 0, &key);
	token = argument_token(fcinfo, 1);
	if (PG_ARGISNULL(2) && !only_longer)
		ttl = TTL_AS_BEFORE;
	else
		ttl = argument_ttl(fcinfo, 2);

	if (lease_extend(&key, token, ttl, only_longer, expires_at))
		return true;
	if (raise)
		error_not_held(&key);
	return false;
}

static bool
release(FunctionCallInfo fcinfo, bool raise)
{
	LockKey		key;
	text	   *token;

	argument_key(fcinfo, 0, &key);
	token = argument_token(fcinfo, 1);
	if (lease_release(&key, token))
		return true;
	if (raise)
		error_not_held(&key);
	return false;
}
