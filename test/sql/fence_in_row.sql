-- The last fence of a key is in its row, whatever the scope: should the sequence be set back, the next is above it.
CREATE TEMP TABLE work (n int);
CREATE TEMP TABLE fences (n serial, fence bigint);
-- a lock of scope transaction: on a key that has been used before, and on a new one
SELECT distlock.acquire_with_token('used', 'tok', '1 min') IS NOT NULL AS acquired;
SELECT distlock.release('used', 'tok');
BEGIN;
INSERT INTO fences (fence) SELECT distlock.acquire_with_token('used', 'tok', '1 min', scope => 'transaction');
INSERT INTO fences (fence) SELECT distlock.acquire_with_token('new', 'tok', '1 min', scope => 'transaction');
INSERT INTO work VALUES (1);
COMMIT;
SELECT key, l.fence = f.fence AS in_row FROM distlock.lock l LEFT JOIN fences f USING (fence)
WHERE key IN ('used', 'new') ORDER BY key;
-- the sequence is set back
SELECT setval('distlock.fence_seq', min(fence) - 1) IS NOT NULL AS set_back FROM fences;
SELECT distlock.acquire_with_token('new', 'tok', '1 min') > max(fence) AS above FROM fences;
SELECT setval('distlock.fence_seq', min(fence) - 1) IS NOT NULL AS set_back FROM fences;
BEGIN;
SELECT distlock.acquire_with_token('used', 'tok', '1 min', scope => 'transaction') > max(fence) AS above FROM fences WHERE n = 1;
COMMIT;
-- a lease whose end was forced
SELECT distlock.force_release('new') AS forced;
SELECT setval('distlock.fence_seq', fence - 2) IS NOT NULL AS set_back FROM distlock.lock WHERE key = 'new';
SELECT l.fence AS before FROM distlock.lock l WHERE key = 'new' \gset
SELECT distlock.acquire_with_token('new', 'tok', '1 min') > :before AS above;
SELECT distlock.release('new', 'tok');
