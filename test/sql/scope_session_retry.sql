-- Who holds the lock by its own session is refused at once, also as a poller.
SET statement_timeout = '1 min';
SELECT distlock.acquire_with_token('job', 'tok', '1 h', scope => 'session') IS NOT NULL AS acquired;
SELECT distlock.try_acquire('job', '1 s', wait => '1 h', retry => distlock.linear_backoff('1 h')) IS NULL AS refused;
SELECT distlock.acquire('job', '1 s', retry => distlock.linear_backoff('1 h'));
SELECT distlock.release('job', 'tok');
