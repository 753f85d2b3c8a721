"""The background worker: how fast, how smooth, how quiet."""

import time

from measure import scenario
from processes import processor_time
from servers import NOT_DURABLE, sections
from ways import Bursts


def await_sql(pg, query):
    """Until it returns true."""
    for _ in range(600):
        if pg.sql(query) == 't':
            return
        time.sleep(0.05)
    raise RuntimeError('waited for 30 s: %s; %s' % (query, pg.sql('SELECT * FROM distlock.worker_status')))


def switch(pg, on):
    """The worker on or off; waits until it is so."""
    pg.sql('ALTER SYSTEM SET distlock.worker = %s; SELECT pg_reload_conf();' % ('on' if on else 'off'))
    await_sql(pg, "SELECT count(*) = %d FROM distlock.worker_status "
              "WHERE database = 'postgres' AND state = 'running'" % on)


def workers(pg):
    return pg.sql("SELECT pid FROM pg_stat_activity WHERE backend_type IN "
                  "('distlock launcher', 'distlock worker')").split()


class Expiry:
    """Of all rows, a tenth has lapsed; the time to free them, by the worker, whose
    passes are watched, or by one UPDATE of a copy of the table."""

    def __init__(self, pg, session, rows, by_worker):
        self.pg = pg
        self.session = session
        self.rows = rows
        self.by_worker = by_worker
        self.longest_step = []

    def warm_up(self, _seconds):
        pass

    def run(self):
        lapsed = self.rows // 10
        self.session.sql('''
            DO $lapse$
            BEGIN
                FOR i IN 1 .. %d LOOP
                    PERFORM distlock.acquire('key ' || i * 10, '1 ms');
                    IF i %% 500 = 0 THEN COMMIT; END IF;
                END LOOP;
            END $lapse$''' % lapsed)
        self.session.sql('VACUUM distlock.lock; CHECKPOINT')
        took = self.watch_worker(lapsed) if self.by_worker else self.update(lapsed)
        self.session.sql('VACUUM distlock.lock')
        return took * 1e6 / lapsed

    def update(self, lapsed):
        self.session.sql('''
            DROP TABLE IF EXISTS copy;
            CREATE TABLE copy (LIKE distlock.lock INCLUDING ALL) WITH (fillfactor = 70);
            INSERT INTO copy TABLE distlock.lock;
            VACUUM copy; CHECKPOINT''')
        answer = self.session.sql('''
            SELECT clock_timestamp() AS began \\gset
            WITH freed AS (UPDATE copy SET token = NULL, owner = NULL, data = NULL
                WHERE token IS NOT NULL AND expires_at <= clock_timestamp() RETURNING 1)
            SELECT count(*) FROM freed;
            SELECT extract(epoch FROM clock_timestamp() - :'began')''').split('\n')
        if int(answer[0]) != lapsed:
            raise RuntimeError('%s rows had lapsed, not %d' % (answer[0], lapsed))
        return float(answer[1])

    def watch_worker(self, lapsed):
        """Looks every millisecond, so as not to miss a pass."""
        status = "FROM distlock.worker_status WHERE database = 'postgres'"
        self.session.sql('SET bench.passes = %s; SET bench.expired = %s' % (
            self.session.sql('SELECT passes ' + status), self.session.sql('SELECT expired ' + status)))
        switch(self.pg, True)
        took, missed, step = self.session.sql('''
            DO $watch$
            DECLARE
                status record;
                seen bigint := current_setting('bench.passes');
                took float := 0;
                missed bigint := 0;
                deadline timestamptz := clock_timestamp() + '2 min';
                ended boolean := false;
            BEGIN
                LOOP
                    SELECT passes, last_pass_ms, expired, longest_step_ms %s INTO status;
                    IF status.passes > seen THEN
                        took := took + status.last_pass_ms;
                        missed := missed + status.passes - seen - 1;
                        seen := status.passes;
                        EXIT WHEN status.expired - current_setting('bench.expired')::bigint >= %d;
                    END IF;
                    IF clock_timestamp() > deadline THEN
                        RAISE 'the worker has not freed all in two minutes';
                    END IF;
                    COMMIT;
                    PERFORM pg_sleep(0.001);
                END LOOP;
                PERFORM set_config('bench.watched',
                    concat_ws(' ', took, missed, status.longest_step_ms), false);
            END $watch$;
            SHOW bench.watched''' % (status, lapsed)).split()
        if missed != '0':
            raise RuntimeError('%s passes of the worker went by unseen' % missed)
        self.longest_step.append(float(step))
        switch(self.pg, False)
        return float(took) / 1000


@scenario('worker', 'Expiry by the worker', [
    '100,000 of 1,000,000 rows at most 1.15 of the plain UPDATE',
    'no step over 5 ms',
    'an idle worker at most 1 % of a core',
    'no cost for acquire and extend (taken as at most 1.03)',
], seconds=(10, 330))
def worker(s):
    """distlock is preloaded, without events, since an UPDATE announces nothing, and
    autovacuum is off, since both tables are vacuumed before.
    Every tenth lease has lapsed before the worker comes; counted is the time of
    its passes, which includes finding them. The UPDATE is of a copy of the table
    with its index, in one transaction. What the worker costs others is measured in two
    databases of one server, one of which has a worker. With --quick it is 5,000 of 50,000."""
    pg = s.servers.pg('worker')
    rows = 50000 if s.quick else 1000000
    switch(pg, False)
    pg.sql("ALTER SYSTEM SET distlock.purge_after = '1h'; SELECT pg_reload_conf();")
    session = pg.session(NOT_DURABLE)
    fill_for_worker(s, session, rows)

    by_worker = Expiry(pg, session, rows, True)
    table = s.interleave('freeing what has lapsed', 'us a row', {
        'distlock worker': by_worker,
        'plain UPDATE': Expiry(pg, session, rows, False),
    }, rounds=3 if s.quick else 7, turns=1)
    s.ratio('%s of %s rows, of a plain UPDATE' % ('{:,}'.format(rows // 10), '{:,}'.format(rows)),
            table, 'distlock worker', 'plain UPDATE', 1.15)
    s.value('longest step', by_worker.longest_step, 'ms', 5)

    switch(pg, True)
    time.sleep(1)
    s.progress.show('%s: idle' % s.name)
    seconds = 3 if s.quick else 20
    pids = workers(pg)
    before = processor_time(pids)
    time.sleep(seconds)
    s.value('launcher and worker idle, with %s locks' % '{:,}'.format(rows),
            100 * (processor_time(pids) - before) / seconds, '% of a core', 1)

    session.close()

    # what it costs others: two databases, one of which has no worker
    ways = {}
    for name, change in (('worker on', 'start'), ('worker off', 'stop')):
        database = 'bench_' + change
        pg.sql('CREATE DATABASE ' + database)
        pg.sql("CREATE EXTENSION distlock; SELECT distlock.%s_worker(); "
               "SELECT distlock.acquire_with_token('kept', 'the token', '1 h')" % change,
               database=database)
        ways[name] = Bursts(pg, {
            'pair, ' + name: (sections('distlock')['loop'], ''),
            'extend, ' + name: ("PERFORM distlock.extend('kept', 'the token', '1 h'); COMMIT;", ''),
        }, 200, database=database)
    await_sql(pg, "SELECT count(*) FILTER (WHERE database = 'bench_start' AND state = 'running') = 1 "
              "AND count(*) FILTER (WHERE database = 'bench_stop' AND state = 'stopped') = 1 "
              'FROM distlock.worker_status')
    table = s.interleave('calls in a loop within the server', 'us a call', ways)
    s.ratio('pair with the worker, of without', table, 'pair, worker on', 'pair, worker off', 1.03)
    s.ratio('extend with the worker, of without', table, 'extend, worker on', 'extend, worker off', 1.03)
    for database in ('bench_start', 'bench_stop'):
        pg.sql('DROP DATABASE %s WITH (FORCE)' % database)


def fill_for_worker(s, session, rows):
    s.progress.show('%s: filling %s rows' % (s.name, '{:,}'.format(rows)))
    session.sql('''
        DO $fill$
        BEGIN
            FOR i IN 1 .. %d LOOP
                PERFORM distlock.try_acquire('key ' || i,
                    CASE WHEN i %% 10 = 0 THEN interval '1 ms' ELSE interval '1 day' END);
                IF i %% 500 = 0 THEN COMMIT; END IF;
            END LOOP;
        END $fill$''' % rows)
