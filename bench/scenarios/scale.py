"""Many locks, and many calls."""

from measure import scenario
from servers import NOT_DURABLE
from ways import Bursts


def fill(session, count):
    """That many leases, held."""
    session.sql('''
        DO $fill$
        BEGIN
            FOR i IN 1 .. %d LOOP
                PERFORM distlock.acquire('key ' || i, '1 day');
                IF i %% 500 = 0 THEN COMMIT; END IF;
            END LOOP;
        END $fill$''' % count)


def new_database(pg, name):
    pg.sql('CREATE DATABASE %s' % name)
    pg.sql('CREATE EXTENSION distlock', database=name)
    return pg.session(NOT_DURABLE, name)


def size(pg, name):
    """Pages of the table and of the index."""
    return [int(n) for n in pg.sql("SELECT pg_relation_size('distlock.lock') / 8192, "
                                   "pg_relation_size('distlock.lock_pkey') / 8192",
                                   database=name).split('|')]



@scenario('scale', 'Many locks and many calls', [
    'acquire + release at 1,000,000 rows at most 1.10 of 1,000 rows',
    '1,000,000 calls on one key: no page more, 99.9 % HOT',
    'at most 130 bytes a lock including the index',
    '1,000,000 distinct keys: peak size, time and WAL to purge',
], seconds=(7, 260))
def scale(s):
    """Not waiting for the disk. The rows are leases that are held; the pairs are
    on 1,000 other keys. With --quick it is 20,000 instead of 1,000,000."""
    pg = s.servers.pg()
    many = 20000 if s.quick else 1000000
    words = '{:,}'.format(many)

    # rows that are there
    ways = {}
    for name, count in (('small', 1000), ('large', many)):
        s.progress.show('%s: filling %s rows' % (s.name, '{:,}'.format(count)))
        session = new_database(pg, name)
        fill(session, count)
        session.close()
        ways[name] = Bursts(pg, {'{:,} rows'.format(count): (
            """k := 'free ' || i * 7919 % 1000; t := distlock.acquire(k, '1 min'); COMMIT;
               PERFORM distlock.release(k, t); COMMIT;""", '')}, 1000, database=name)
        if name == 'large':
            used = sum(size(pg, name)) * 8192 / many
    table = s.interleave('pairs in a loop within the server', 'us a pair', ways)
    s.ratio('%s rows, of 1,000' % words, table, words + ' rows', '1,000 rows', 1.10)
    s.value('table and index for each of %s locks' % words, used, 'bytes', 130)
    for name in ('small', 'large'):
        pg.sql('DROP DATABASE %s' % name)

    # calls on one key
    s.progress.show('%s: %s calls on one key' % (s.name, words))
    session = new_database(pg, 'single')
    calls = '''DO $calls$ DECLARE t text; BEGIN FOR i IN 1 .. %d LOOP
        t := distlock.acquire('one', '1 min'); COMMIT; PERFORM distlock.release('one', t); COMMIT;
        END LOOP; END $calls$'''
    session.sql(calls % 100)
    before = size(pg, 'single')
    session.sql(calls % (many // 2))
    session.close()
    updates, hot = [int(n) for n in pg.sql(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_all_tables "
        "WHERE relid = 'distlock.lock'::regclass", database='single').split('|')]
    s.value('%s calls on one key: pages more' % words, sum(size(pg, 'single')) - sum(before), 'pages', 0)
    s.value('%s calls on one key: HOT' % words, 100 * hot / updates, '%', at_least=99.9)
    pg.sql('DROP DATABASE single')

    # keys that never come again
    s.progress.show('%s: %s distinct keys' % (s.name, words))
    session = new_database(pg, 'distinct_keys')
    session.sql('''DO $calls$ DECLARE t text; BEGIN FOR i IN 1 .. %d LOOP
        t := distlock.acquire('key ' || i, '1 min'); COMMIT;
        PERFORM distlock.release('key ' || i, t); COMMIT;
        END LOOP; END $calls$''' % many)
    peak = sum(size(pg, 'distinct_keys')) * 8
    began, lsn = session.sql('SELECT clock_timestamp(), pg_current_wal_insert_lsn()').split('|')
    session.sql('CALL distlock.purge()')
    took, wal, left = session.sql(
        "SELECT extract(epoch FROM clock_timestamp() - '%s'), pg_wal_lsn_diff("
        "pg_current_wal_insert_lsn(), '%s'), (SELECT count(*) FROM distlock.lock)"
        % (began, lsn)).split('|')
    session.close()
    s.value('%s distinct keys: peak size' % words, peak / 1024, 'MiB')
    s.value('%s distinct keys: time to purge' % words, float(took), 's')
    s.value('%s distinct keys: WAL to purge' % words, int(wal) / 1048576, 'MiB')
    s.value('%s distinct keys: rows left after it' % words, int(left), '')
    pg.sql('DROP DATABASE distinct_keys')
