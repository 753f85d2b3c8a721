-- cirello.io/pglock: the table and the statements of Acquire and Release, as they
-- have been since the end of 2024.  In its favour: the lock is released with the
-- option KeepOnRelease, which updates the row in place (without it, the row is
-- deleted, and inserted by the next acquire), and nothing sends the heart-beats.

--- setup
CREATE TABLE locks (name varchar(255) PRIMARY KEY, record_version_number bigint, data bytea, owner varchar(255));
CREATE SEQUENCE locks_rvn CYCLE OWNED BY locks.record_version_number;

--- pair
SELECT nextval('locks_rvn');
INSERT INTO locks ("name", "record_version_number", "data", "owner") VALUES ($1, $2, NULL, 'pglock-1')
	ON CONFLICT ("name") DO UPDATE SET
		"record_version_number" = CASE WHEN coalesce(locks."record_version_number" = 0, true) THEN $2 ELSE locks."record_version_number" END,
		"data" = CASE WHEN coalesce(locks."record_version_number" = 0, true)
			THEN CASE WHEN false THEN NULL ELSE locks."data" END ELSE locks."data" END,
		"owner" = CASE WHEN coalesce(locks."record_version_number" = 0, true) THEN 'pglock-1' ELSE locks."owner" END
	RETURNING "record_version_number", "data", "owner";
UPDATE locks SET "record_version_number" = NULL
	WHERE "name" = $1 AND "record_version_number" = $2;

--- loop
k := nextval('locks_rvn'); COMMIT;
INSERT INTO locks ("name", "record_version_number", "data", "owner") VALUES ('nightly-interest', k::bigint, NULL, 'pglock-1')
	ON CONFLICT ("name") DO UPDATE SET
		"record_version_number" = CASE WHEN coalesce(locks."record_version_number" = 0, true) THEN k::bigint ELSE locks."record_version_number" END,
		"data" = CASE WHEN coalesce(locks."record_version_number" = 0, true)
			THEN CASE WHEN false THEN NULL ELSE locks."data" END ELSE locks."data" END,
		"owner" = CASE WHEN coalesce(locks."record_version_number" = 0, true) THEN 'pglock-1' ELSE locks."owner" END
	RETURNING "record_version_number" INTO t; COMMIT;
UPDATE locks SET "record_version_number" = NULL
	WHERE "name" = 'nightly-interest' AND "record_version_number" = t::bigint; COMMIT;
