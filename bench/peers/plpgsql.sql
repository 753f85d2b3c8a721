-- What one writes oneself: a table and functions in PL/pgSQL that do the same as
-- distlock's (a token, a time to live, a fence).  The functions spi_... are the
-- same in C by way of SPI, see spi_lock.c.

--- setup
CREATE SCHEMA peer;
CREATE TABLE peer.lock (key text PRIMARY KEY, token uuid, fence bigint NOT NULL, expires_at timestamptz NOT NULL) WITH (fillfactor = 70);
CREATE SEQUENCE peer.fence;
CREATE FUNCTION peer.acquire(k text, ttl interval) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
	granted uuid;
BEGIN
	INSERT INTO peer.lock AS l (key, token, fence, expires_at)
		VALUES (k, gen_random_uuid(), nextval('peer.fence'), clock_timestamp() + ttl)
		ON CONFLICT (key) DO UPDATE SET token = excluded.token, fence = excluded.fence, expires_at = excluded.expires_at
			WHERE l.token IS NULL OR l.expires_at <= clock_timestamp()
		RETURNING token INTO granted;
	RETURN granted;
END $$;
CREATE FUNCTION peer.extend(k text, t uuid, ttl interval) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	UPDATE peer.lock SET expires_at = clock_timestamp() + ttl
		WHERE key = k AND token = t AND expires_at > clock_timestamp();
	RETURN FOUND;
END $$;
CREATE FUNCTION peer.release(k text, t uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	UPDATE peer.lock SET token = NULL
		WHERE key = k AND token = t AND expires_at > clock_timestamp();
	RETURN FOUND;
END $$;
CREATE FUNCTION peer.spi_acquire(text, text) RETURNS text LANGUAGE c AS :'spi_lock', 'spi_acquire';
CREATE FUNCTION peer.spi_extend(text, text, text) RETURNS text LANGUAGE c AS :'spi_lock', 'spi_extend';
CREATE FUNCTION peer.spi_release(text, text) RETURNS text LANGUAGE c AS :'spi_lock', 'spi_release';
CREATE FUNCTION peer.plain(command text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	RETURN 1;
END $$;
CREATE FUNCTION peer.exclusively(k bigint, command text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock(k);
	EXECUTE command;
	RETURN 1;
END $$;

--- pair
SELECT peer.acquire($1, '1 min');
SELECT peer.release($1, $2);

--- loop
t := peer.acquire('nightly-interest', '1 min'); COMMIT;
PERFORM peer.release('nightly-interest', t::uuid); COMMIT;
