"""When dead row versions cannot be cleaned up."""

from measure import scenario
from servers import NOT_DURABLE

PAIRS = 10000
PAIRS_DBKIT = 1000
DISTLOCK = """t := distlock.acquire('%(key)s', '1 min'); %(commit)s
              PERFORM distlock.release('%(key)s', t); %(commit)s"""
DBKIT = """UPDATE distributed_locks SET expire_at = NOW() + '1 min'::interval,
              token = '6f1ec1a8-9f0b-4f6c-8f3a-0b5a6f1d2c3e'
              WHERE lock_key = '%(key)s' AND (expire_at IS NULL OR expire_at < NOW());
           %(commit)s
           UPDATE distributed_locks SET expire_at = NULL WHERE lock_key = '%(key)s'
              AND token = '6f1ec1a8-9f0b-4f6c-8f3a-0b5a6f1d2c3e' AND expire_at >= NOW();
           %(commit)s"""


class Pairs:
    """Pairs on one key, a new one each time: many in a transaction or one each,
    and with or without somebody else's snapshot from before."""

    number = 0

    def __init__(self, pg, body, pairs, a_transaction=1, snapshot=False):
        self.pg = pg
        self.session = pg.session(NOT_DURABLE)
        self.session.provide_own_time()
        self.body = body
        self.pairs = pairs
        self.a_transaction = a_transaction
        self.snapshot = snapshot

    def warm_up(self, _seconds):
        self.measure(200, 0)

    def run(self):
        return self.measure(self.pairs, self.a_transaction)

    def measure(self, pairs, a_transaction):
        Pairs.number += 1
        key = 'snapshot %d' % Pairs.number
        if 'distributed_locks' in self.body:
            self.pg.sql("INSERT INTO distributed_locks VALUES ('%s')" % key)
        other = self.pg.session() if self.snapshot else None
        if other:
            other.sql('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class')
        body = self.body % {'key': key, 'commit': 'COMMIT;' if a_transaction == 1 else ''}
        if a_transaction > 1:
            body += 'IF i %% %d = 0 THEN COMMIT; END IF;' % a_transaction
        time = self.session.sql('''
            DO $pairs$
            DECLARE
                began float;
                t text;
            BEGIN
                COMMIT;
                began := pg_temp.own_time();
                FOR i IN 1 .. %d LOOP %s END LOOP;
                PERFORM set_config('bench.time', (pg_temp.own_time() - began)::text, false);
            END $pairs$;
            SHOW bench.time''' % (pairs, body))
        if other:
            other.close()
        self.pg.sql('VACUUM distlock.lock, distributed_locks')
        return float(time) * 1e6 / pairs

    def close(self):
        self.session.close()


@scenario('old-snapshot', 'An old snapshot held open, 10,000 pairs on one key', [
    'at most 1.5 times without it',
    '5,000 pairs on one key in one transaction at most 1.5 times 50 in each of 100',
], seconds=(5, 25))
def old_snapshot(s):
    """A transaction elsewhere, a backup or a report, keeps every version of the
    key's row from being cleaned up, and so does one's own transaction. Not
    waiting for the disk, in a loop within the server, a new key each time."""
    pg = s.servers.pg()
    table = s.interleave('pairs on one key', 'us a pair', {
        'distlock': Pairs(pg, DISTLOCK, PAIRS),
        'distlock, old snapshot': Pairs(pg, DISTLOCK, PAIRS, snapshot=True),
        'distlock, 50 in a transaction': Pairs(pg, DISTLOCK, 5000, 50),
        'distlock, 5,000 in a transaction': Pairs(pg, DISTLOCK, 5000, 5000),
        'dbkit': Pairs(pg, DBKIT, PAIRS_DBKIT),
        'dbkit, old snapshot, 1,000 pairs': Pairs(pg, DBKIT, PAIRS_DBKIT, snapshot=True),
    }, turns=1)
    s.ratio('with an old snapshot, of without', table, 'distlock, old snapshot', 'distlock', 1.5)
    s.ratio('5,000 in a transaction, of 50', table, 'distlock, 5,000 in a transaction',
            'distlock, 50 in a transaction', 1.5)
    s.ratio('dbkit: with an old snapshot, of without, 1,000 pairs', table,
            'dbkit, old snapshot, 1,000 pairs', 'dbkit')
