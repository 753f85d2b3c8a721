-- go-dbkit's package distrlock (github.com/acronis/go-dbkit): the table and the
-- statements that it issues on PostgreSQL.  In its favour: sent without the
-- transaction block that DoExclusively puts around each, and the random token,
-- which its client draws, is a constant.

--- setup
CREATE TABLE distributed_locks (lock_key varchar(40) PRIMARY KEY, token uuid, expire_at timestamp);
INSERT INTO distributed_locks (lock_key)
	SELECT i::text FROM generate_series(0, 63) i
	UNION ALL VALUES ('nightly-interest'), ('hot');

--- pair
UPDATE distributed_locks SET expire_at = NOW() + '60000000 microseconds'::interval, token = '6f1ec1a8-9f0b-4f6c-8f3a-0b5a6f1d2c3e'
	WHERE lock_key = :client_id::text AND ((expire_at IS NULL OR expire_at < NOW()) OR token = '6f1ec1a8-9f0b-4f6c-8f3a-0b5a6f1d2c3e');
UPDATE distributed_locks SET expire_at = NULL
	WHERE lock_key = :client_id::text AND token = '6f1ec1a8-9f0b-4f6c-8f3a-0b5a6f1d2c3e' AND expire_at >= NOW();

--- loop
UPDATE distributed_locks SET expire_at = NOW() + '60000000 microseconds'::interval, token = '6f1ec1a8-9f0b-4f6c-8f3a-0b5a6f1d2c3e'
	WHERE lock_key = 'nightly-interest' AND ((expire_at IS NULL OR expire_at < NOW()) OR token = '6f1ec1a8-9f0b-4f6c-8f3a-0b5a6f1d2c3e');
COMMIT;
UPDATE distributed_locks SET expire_at = NULL
	WHERE lock_key = 'nightly-interest' AND token = '6f1ec1a8-9f0b-4f6c-8f3a-0b5a6f1d2c3e' AND expire_at >= NOW();
COMMIT;

--- hot
\set granted 0
UPDATE distributed_locks SET expire_at = NOW() + '60000000 microseconds'::interval, token = ('6f1ec1a8-9f0b-4f6c-8f3a-0b5a6f1d2c0' || :client_id)::uuid
	WHERE lock_key = 'hot' AND ((expire_at IS NULL OR expire_at < NOW()) OR token = ('6f1ec1a8-9f0b-4f6c-8f3a-0b5a6f1d2c0' || :client_id)::uuid)
	RETURNING 1 AS granted \aset
\if :granted
UPDATE distributed_locks SET expire_at = NULL
	WHERE lock_key = 'hot' AND token = ('6f1ec1a8-9f0b-4f6c-8f3a-0b5a6f1d2c0' || :client_id)::uuid AND expire_at >= NOW();
\endif

--- refused_setup
UPDATE distributed_locks SET expire_at = NOW() + '1 day', token = gen_random_uuid() WHERE lock_key = 'hot';

--- refused
UPDATE distributed_locks SET expire_at = NOW() + '60000000 microseconds'::interval, token = '6f1ec1a8-9f0b-4f6c-8f3a-0b5a6f1d2c3e'
	WHERE lock_key = 'hot' AND ((expire_at IS NULL OR expire_at < NOW()) OR token = '6f1ec1a8-9f0b-4f6c-8f3a-0b5a6f1d2c3e');
