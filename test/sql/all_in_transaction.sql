-- extend_all and release_all go by the token for locks of scope transaction too.
BEGIN;
SELECT count(distlock.acquire_with_token(key, token, '1 min', scope => 'transaction'))
FROM (VALUES ('job 1', 'one'), ('job 2', 'one'), ('job 3', 'two')) j(key, token);
SELECT distlock.acquire_with_token('job 4', 'one', '1 min') > 0 AS lease;
SELECT distlock.extend_all('one', '2 min') AS one, distlock.extend_all('two', '2 min') AS two, distlock.extend_all('three', '2 min') AS three;
SELECT distlock.release_all('three') AS three;
SELECT distlock.release_all('one') AS one;
SELECT key, distlock.fence(key, token) IS NOT NULL AS held
FROM (VALUES ('job 1', 'one'), ('job 2', 'one'), ('job 3', 'two'), ('job 4', 'one')) j(key, token);
SELECT distlock.release_all('one') AS one, distlock.release_all('two') AS two;
SELECT distlock.fence('job 3', 'two') IS NOT NULL AS held;
COMMIT;
