"""Many keys in one statement."""

from measure import scenario
from ways import Bursts

MANY = 30000
ACQUIRE = "SELECT count(distlock.acquire('%s ' || i, '1 min')) FROM generate_series(1, %d) i"


@scenario('batch', 'Many keys acquired in one statement', [
    '30,000 keys: the time per key',
    'no exhaustion of the lock table for others: a documented cap with a clear error, or a way round it',
], seconds=(11, 50))
def batch(s):
    """With PostgreSQL's and distlock's settings as they come, 30,000 keys must be
    refused in time, and who has as many keys as it may must leave enough for
    others. The time per key is taken on a server with max_locks_per_transaction =
    1024 and distlock.max_keys_per_transaction = 100000; keys that have been used
    before, not waiting for the disk."""
    pg = s.servers.pg()
    session = pg.session()
    try:
        session.sql(ACQUIRE % ('batch', MANY))
        message = 'granted'
    except RuntimeError as error:
        message = str(error)
    state = session.sql('\\echo :LAST_ERROR_SQLSTATE')
    s.check('30,000 keys are refused with SQLSTATE 54000 and a hint',
            '54000' in state and 'HINT' in message)
    s.note('The error: ' + ' '.join(message.split()))
    session.sql('BEGIN; ' + ACQUIRE % ('batch', 1500))
    other = pg.session()
    try:
        other.sql('BEGIN; ' + ACQUIRE % ('other', 1000) + ';'
                  'SELECT count(pg_advisory_xact_lock(i)) FROM generate_series(1, 1000) i; COMMIT')
        unhindered = True
    except RuntimeError as error:
        s.note('Others meanwhile: %s' % error)
        unhindered = False
    s.check('with 1,500 keys in one transaction, others can have 1,000 and 1,000 advisory locks',
            unhindered)
    session.sql('ROLLBACK')
    session.close()
    other.close()

    large = s.servers.pg('batch')

    def acquire(count):
        return ("PERFORM count(distlock.acquire_with_token('batch ' || n, 'the token', '1 min')) "
                "FROM generate_series(1, %d) n;" % count,
                "COMMIT; PERFORM distlock.release_all('the token'); COMMIT;", count)
    ways = {
        'distlock, 1,000 keys': acquire(1000),
        'distlock, 30,000 keys': acquire(MANY),
        'plpgsql, 30,000 keys': (
            "PERFORM count(peer.acquire('batch ' || n, '1 min')) FROM generate_series(1, %d) n;" % MANY,
            "COMMIT; UPDATE peer.lock SET token = NULL WHERE key LIKE 'batch %'; COMMIT;", MANY),
        'pg_try_advisory_xact_lock, 30,000': (
            'PERFORM count(pg_try_advisory_xact_lock(n)) FROM generate_series(1, %d) n;' % MANY,
            'COMMIT;', MANY),
    }
    table = s.interleave('keys acquired in one statement', 'us a key',
                         {'all': Bursts(large, ways, 1)}, turns=1,
                         rounds=2 if s.quick else None)
    s.ratio('a key among 30,000, of one among 1,000', table, 'distlock, 30,000 keys',
            'distlock, 1,000 keys')
    s.ratio('30,000 keys, of PL/pgSQL', table, 'distlock, 30,000 keys', 'plpgsql, 30,000 keys')
    s.ratio('30,000 keys, of pg_try_advisory_xact_lock', table, 'distlock, 30,000 keys',
            'pg_try_advisory_xact_lock, 30,000')
