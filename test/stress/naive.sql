--
-- The lock that everybody writes at first: one statement, an upsert, with a
-- fence from a column's default.  The same table and functions as distlock's,
-- so that the same load can be run on it.
--

CREATE SCHEMA naive;

CREATE SEQUENCE naive.fence_seq;
CREATE TABLE naive.lock (
	LIKE distlock.lock,
	PRIMARY KEY (key)
);
ALTER TABLE naive.lock
	ALTER fence SET DEFAULT nextval('naive.fence_seq'),
	ALTER pid SET DEFAULT pg_backend_pid(),
	ALTER role SET DEFAULT 0,
	ALTER permit SET DEFAULT 0,
	ALTER scope SET DEFAULT 'l';

CREATE FUNCTION naive.microseconds(i interval) RETURNS bigint
LANGUAGE sql IMMUTABLE AS 'SELECT (extract(epoch FROM i) * 1000000)::bigint';

-- One attempt; there is no way to wait for this lock.
CREATE FUNCTION naive.try_acquire_with_token(key text, token text, ttl interval,
	wait interval DEFAULT '0', scope text DEFAULT 'lease',
	owner text DEFAULT NULL, data text DEFAULT NULL,
	retry distlock.retry DEFAULT NULL) RETURNS bigint
LANGUAGE sql AS $$
	INSERT INTO naive.lock AS l (key, token, ttl, acquired_at, expires_at, owner)
	VALUES (key, token, naive.microseconds(ttl), clock_timestamp(),
			clock_timestamp() + ttl, owner)
	ON CONFLICT ON CONSTRAINT lock_pkey DO UPDATE
	SET token = excluded.token, fence = excluded.fence, ttl = excluded.ttl,
		acquired_at = excluded.acquired_at, expires_at = excluded.expires_at,
		pid = excluded.pid, owner = excluded.owner
	WHERE l.token IS NULL OR l.expires_at <= clock_timestamp()
	RETURNING fence
$$;

CREATE FUNCTION naive.try_acquire(key text, ttl interval,
	wait interval DEFAULT '0', scope text DEFAULT 'lease',
	owner text DEFAULT NULL, data text DEFAULT NULL,
	retry distlock.retry DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	token text := replace(gen_random_uuid()::text, '-', '');
BEGIN
	IF naive.try_acquire_with_token(key, token, ttl, owner => owner) IS NULL THEN
		RETURN NULL;
	END IF;
	RETURN token;
END $$;

CREATE FUNCTION naive.try_extend(key_ text, token_ text, ttl_ interval)
RETURNS timestamptz
LANGUAGE sql AS $$
	UPDATE naive.lock
	SET ttl = naive.microseconds(ttl_), expires_at = clock_timestamp() + ttl_
	WHERE key = key_ AND token = token_ AND expires_at > clock_timestamp()
	RETURNING expires_at
$$;

CREATE FUNCTION naive.try_ensure(key_ text, token_ text, ttl_ interval)
RETURNS timestamptz
LANGUAGE sql AS $$
	UPDATE naive.lock
	SET ttl = naive.microseconds(ttl_), expires_at = clock_timestamp() + ttl_
	WHERE key = key_ AND token = token_ AND expires_at > clock_timestamp()
		AND expires_at < clock_timestamp() + ttl_
	RETURNING expires_at
$$;

CREATE FUNCTION naive.try_release(key_ text, token_ text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
	UPDATE naive.lock SET token = NULL, owner = NULL,
		expires_at = clock_timestamp()
	WHERE key = key_ AND token = token_ AND expires_at > clock_timestamp();
	RETURN found;
END $$;

CREATE FUNCTION naive.extend_all(token_ text, ttl_ interval) RETURNS integer
LANGUAGE sql AS $$
	SELECT count(naive.try_extend(key, token_, ttl_))::integer
	FROM (SELECT key FROM naive.lock WHERE token = token_ ORDER BY key) k
$$;

CREATE FUNCTION naive.release_all(token_ text) RETURNS integer
LANGUAGE sql AS $$
	SELECT count(*)::integer
	FROM (SELECT key FROM naive.lock WHERE token = token_ ORDER BY key) k
	WHERE naive.try_release(key, token_)
$$;

CREATE FUNCTION naive.fence(key_ text, token_ text) RETURNS bigint
LANGUAGE sql AS $$
	SELECT fence FROM naive.lock WHERE key = key_ AND token = token_
$$;

CREATE PROCEDURE naive.purge()
LANGUAGE sql AS $$
	DELETE FROM naive.lock WHERE token IS NULL OR expires_at <= clock_timestamp()
$$;
