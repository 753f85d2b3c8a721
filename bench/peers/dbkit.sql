-- go-dbkit's package distrlock (github.com/acronis/go-dbkit): the table and the
-- statements that it issues on PostgreSQL.  In its favour: they are sent without
-- the transaction block that DoExclusively puts around each, the row of the key is
-- there already, and in a loop the random token is a constant.

--- setup
CREATE TABLE distributed_locks (lock_key varchar(40) PRIMARY KEY, token uuid, expire_at timestamp);
INSERT INTO distributed_locks (lock_key)
	SELECT i::text FROM generate_series(0, 63) i
	UNION ALL VALUES ('nightly-interest'), ('hot');

--- pair
UPDATE distributed_locks SET expire_at = NOW() + '60000000 microseconds'::interval, token = $3
	WHERE lock_key = $1 AND ((expire_at IS NULL OR expire_at < NOW()) OR token = $3);
UPDATE distributed_locks SET expire_at = NULL
	WHERE lock_key = $1 AND token = $3 AND expire_at >= NOW();

--- loop
UPDATE distributed_locks SET expire_at = NOW() + '60000000 microseconds'::interval, token = '6f1ec1a8-9f0b-4f6c-8f3a-0b5a6f1d2c3e'
	WHERE lock_key = 'nightly-interest' AND ((expire_at IS NULL OR expire_at < NOW()) OR token = '6f1ec1a8-9f0b-4f6c-8f3a-0b5a6f1d2c3e');
COMMIT;
UPDATE distributed_locks SET expire_at = NULL
	WHERE lock_key = 'nightly-interest' AND token = '6f1ec1a8-9f0b-4f6c-8f3a-0b5a6f1d2c3e' AND expire_at >= NOW();
COMMIT;

--- hot
UPDATE distributed_locks SET expire_at = NOW() + '60000000 microseconds'::interval, token = $3
	WHERE lock_key = 'hot' AND ((expire_at IS NULL OR expire_at < NOW()) OR token = $3);
?UPDATE distributed_locks SET expire_at = NULL
	WHERE lock_key = 'hot' AND token = $3 AND expire_at >= NOW();

--- refused_setup
UPDATE distributed_locks SET expire_at = NOW() + '1 day', token = gen_random_uuid() WHERE lock_key = 'hot';

--- refused
UPDATE distributed_locks SET expire_at = NOW() + '60000000 microseconds'::interval, token = $3
	WHERE lock_key = 'hot' AND ((expire_at IS NULL OR expire_at < NOW()) OR token = $3);
