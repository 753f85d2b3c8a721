-- A lease that ends when time itself does: never due to be looked at, held like any
-- other.
SELECT distlock.acquire_with_token('far', 'tok', '294276-12-25 00:00:00+00'::timestamptz - clock_timestamp()) IS NOT NULL AS acquired;
SELECT distlock.is_held('far'), distlock.ttl('far', 'tok') > '106000000 days' AS ttl, distlock.try_acquire('far', '1 s') IS NULL AS refused;
SELECT distlock.release('far', 'tok');
-- lists of events have the syntax of lists
SET distlock.events = 'expired,,forced';
SHOW distlock.events;
