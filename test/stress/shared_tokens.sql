-- Tokens that several clients share: whoever comes renews the lock, and
-- everything under the token is kept and given back together.
\set key random(1, 4)
\set ttl random_exponential(1, 60, 3)
\set wait greatest(0, random(-30, 30))
\set token :client_id % 3
\set what random(1, 4)
SELECT clock_timestamp() AS asked, coalesce(:schema.try_acquire_with_token('key :key', 'shared :token', interval ':ttl ms', interval ':wait ms', owner => 'own token')::text, 'none') AS fence, clock_timestamp() AS answered \gset
SELECT stress.note(':asked', ':answered', ':fence') AS granted \gset
\if :what = 1
	SELECT :schema.extend_all('shared :token', interval ':ttl ms');
\elif :what = 2
	SELECT :schema.release_all('shared :token');
\elif :what = 3
	BEGIN;
	SELECT :schema.try_acquire_with_token('key :key', 'shared :token', interval ':ttl ms', owner => 'own token');
	SELECT :schema.try_acquire_with_token('key :key', 'shared :token', interval ':ttl ms', owner => 'own token');
	SELECT :schema.try_release('key :key', 'shared :token');
	COMMIT;
\else
	SELECT :schema.try_release('key :key', 'shared :token');
\endif
