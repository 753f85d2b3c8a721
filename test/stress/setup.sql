--
-- What the clients of the stress test share, besides the locks.
--

CREATE SCHEMA stress;

-- Lines numbered by holders who take the lock and add the line in one
-- transaction.  A holder that does not see its predecessor's work gives out
-- the predecessor's number again.
CREATE UNLOGGED TABLE stress.ledger (
	key text NOT NULL,
	line integer NOT NULL,
	fence bigint NOT NULL
);
CREATE INDEX ON stress.ledger (key, line);

-- Sequences, because a rollback must not undo the counting.
CREATE SEQUENCE stress.attempts;
CREATE SEQUENCE stress.refusals;
CREATE SEQUENCE stress.waits;

-- Count an attempt to acquire; returns whether it was successful.  Who was
-- granted the lock after more than 2 ms has waited for it.
CREATE FUNCTION stress.note(asked timestamptz, answered timestamptz, token text)
RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('stress.attempts');
	IF token = 'none' THEN
		PERFORM nextval('stress.refusals');
	ELSIF answered - asked > interval '2 ms' THEN
		PERFORM nextval('stress.waits');
	END IF;
	RETURN token <> 'none';
END $$;

-- Stop the client, and with it the test, if something is not so.
CREATE FUNCTION stress.must_be(what boolean, message text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	IF what IS NOT TRUE THEN
		RAISE EXCEPTION '%', message;
	END IF;
END $$;

CREATE FUNCTION stress.add_line(key_ text, fence_ bigint) RETURNS void
LANGUAGE sql AS $$
	INSERT INTO stress.ledger (key, line, fence)
	SELECT key_, coalesce(max(line), 0) + 1, fence_
	FROM stress.ledger WHERE key = key_
$$;
