-- ShedLock's JDBC providers with the database's clock (usingDbTime), which its
-- documentation recommends strongly: the table, and the statements for a lock that
-- has been used before (the library remembers which).  In its favour: they are sent
-- without a transaction block, and with constants for the times.

--- setup
CREATE TABLE shedlock (name varchar(64) NOT NULL, lock_until timestamp NOT NULL, locked_at timestamp NOT NULL, locked_by varchar(255) NOT NULL, PRIMARY KEY (name));
INSERT INTO shedlock SELECT i::text, 'epoch', 'epoch', '' FROM generate_series(0, 63) i;
INSERT INTO shedlock VALUES ('nightly-interest', 'epoch', 'epoch', '');

--- pair
UPDATE shedlock SET lock_until = timezone('utc', CURRENT_TIMESTAMP) + make_interval(secs => 60), locked_at = timezone('utc', CURRENT_TIMESTAMP), locked_by = 'batch-1'
	WHERE shedlock.name = $1 AND shedlock.lock_until <= timezone('utc', CURRENT_TIMESTAMP);
UPDATE shedlock SET lock_until = CASE WHEN locked_at + make_interval(secs => 0) > timezone('utc', CURRENT_TIMESTAMP) THEN locked_at + make_interval(secs => 0) ELSE timezone('utc', CURRENT_TIMESTAMP) END
	WHERE name = $1 AND locked_by = 'batch-1';

--- loop
UPDATE shedlock SET lock_until = timezone('utc', CURRENT_TIMESTAMP) + make_interval(secs => 60), locked_at = timezone('utc', CURRENT_TIMESTAMP), locked_by = 'batch-1'
	WHERE shedlock.name = 'nightly-interest' AND shedlock.lock_until <= timezone('utc', CURRENT_TIMESTAMP);
COMMIT;
UPDATE shedlock SET lock_until = CASE WHEN locked_at + make_interval(secs => 0) > timezone('utc', CURRENT_TIMESTAMP) THEN locked_at + make_interval(secs => 0) ELSE timezone('utc', CURRENT_TIMESTAMP) END
	WHERE name = 'nightly-interest' AND locked_by = 'batch-1';
COMMIT;
