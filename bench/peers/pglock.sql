-- cirello.io/pglock: the table and the statements of Acquire and Release, in the
-- transactions that it opens for them.  In its favour: the random version
-- number, which its client draws, is a constant.

--- setup
CREATE TABLE locks (name character varying(255) PRIMARY KEY, record_version_number character varying(255), data bytea);

--- pair
BEGIN ISOLATION LEVEL SERIALIZABLE;
INSERT INTO locks ("name", "record_version_number", "data") VALUES (:client_id::text, '0a7d4b1c9e8f3a2d5c6b7e8f9a0b1c2d', NULL)
	ON CONFLICT ("name") DO UPDATE SET "record_version_number" = '0a7d4b1c9e8f3a2d5c6b7e8f9a0b1c2d',
		"data" = CASE WHEN false THEN NULL ELSE locks."data" END
	WHERE locks."record_version_number" IS NULL OR locks."record_version_number" = '';
SELECT "record_version_number", "data" FROM locks WHERE name = :client_id::text FOR UPDATE;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
UPDATE locks SET "record_version_number" = NULL
	WHERE "name" = :client_id::text AND "record_version_number" = '0a7d4b1c9e8f3a2d5c6b7e8f9a0b1c2d';
COMMIT;

--- loop
INSERT INTO locks ("name", "record_version_number", "data") VALUES ('nightly-interest', '0a7d4b1c9e8f3a2d5c6b7e8f9a0b1c2d', NULL)
	ON CONFLICT ("name") DO UPDATE SET "record_version_number" = '0a7d4b1c9e8f3a2d5c6b7e8f9a0b1c2d',
		"data" = CASE WHEN false THEN NULL ELSE locks."data" END
	WHERE locks."record_version_number" IS NULL OR locks."record_version_number" = '';
PERFORM "record_version_number", "data" FROM locks WHERE name = 'nightly-interest' FOR UPDATE;
COMMIT;
UPDATE locks SET "record_version_number" = NULL
	WHERE "name" = 'nightly-interest' AND "record_version_number" = '0a7d4b1c9e8f3a2d5c6b7e8f9a0b1c2d';
COMMIT;
