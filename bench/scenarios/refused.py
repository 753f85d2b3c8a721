"""A try on a lock that somebody else has."""

from measure import scenario
from servers import NOT_DURABLE, sections
from ways import Bursts, Statements


@scenario('refused', 'try_acquire refused on a held key', [
    'at least 0.9 of the throughput of SELECT 1, with 1 and 8 clients',
    'inside a transaction at most 4 times pg_try_advisory_xact_lock refused',
    'nothing written, nothing left locked',
], seconds=(7, 120))
def refused(s):
    """The key is held by a lease, the advisory lock by another session. Within a
    transaction: a loop, less the empty loop. dbkit's try is an UPDATE of no row."""
    pg = s.servers.pg()
    dbkit = sections('dbkit')
    pg.sql("SELECT distlock.force_acquire('refused', '1 day'); " + dbkit['refused_setup'])
    holder = pg.session()
    holder.sql('SELECT pg_advisory_lock(99)')

    for clients in (1, 8):
        table = s.interleave('tries through the socket, %d client%s' % (clients, 's' * (clients > 1)),
                             'us a try', {
            'distlock': Statements(pg, sections('distlock')['refused'], clients),
            'SELECT 1': Statements(pg, sections('floor')['select'], clients),
            'advisory lock': Statements(pg, 'SELECT pg_try_advisory_xact_lock(99);', clients),
            'dbkit': Statements(pg, dbkit['refused'], clients),
        })
        s.ratio('%d client%s, throughput, of SELECT 1' % (clients, 's' * (clients > 1)), table,
                'distlock', 'SELECT 1', at_least=0.9, throughput=True)
        s.ratio('%d client%s, throughput, of dbkit' % (clients, 's' * (clients > 1)), table,
                'distlock', 'dbkit', throughput=True)

    table = s.interleave('tries within a transaction', 'us a try', {'all': Bursts(pg, {
        'distlock': ("t := distlock.try_acquire('refused', '1 min');", ''),
        'advisory lock': ("t := pg_try_advisory_xact_lock(99);", ''),
        'advisory lock, granted': ("t := pg_try_advisory_xact_lock(i);", 'COMMIT;'),
        'empty loop': ("t := 'refused';", ''),
    }, 500)})
    s.ratio('in a transaction, of pg_try_advisory_xact_lock refused', table, 'distlock',
            'advisory lock', 4, less='empty loop')
    s.ratio('in a transaction, of pg_try_advisory_xact_lock granted', table, 'distlock',
            'advisory lock, granted', less='empty loop')

    # What a try leaves behind: transaction ids, WAL, locks of the session.
    session = pg.session(NOT_DURABLE)
    session.sql("SELECT distlock.try_acquire('refused', '1 min')")
    pg.sql('CHECKPOINT')
    state = 'SELECT pg_snapshot_xmax(pg_current_snapshot()), pg_current_wal_insert_lsn()'
    for _ in range(3):          # the server itself writes a record now and then
        before = session.sql(state).split('|')
        session.sql("SELECT count(distlock.try_acquire('refused', '1 min')) FROM generate_series(1, 10000)")
        if session.sql(state).split('|') == before:
            break
    session.sql("BEGIN; SELECT distlock.try_acquire('refused', '1 min')")
    locks = int(session.sql("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() "
                            "AND locktype NOT IN ('relation', 'virtualxid')"))
    session.sql('COMMIT')
    after = session.sql(state).split('|')
    written = int(pg.sql("SELECT pg_wal_lsn_diff('%s', '%s')::bigint" % (after[1], before[1])))
    session.close()
    holder.close()
    s.value('transaction ids used by 10,000 tries', int(after[0]) - int(before[0]), '', 0)
    s.value('WAL written by them', written, 'bytes', 0)
    s.value('locks still held in the transaction after a try', locks, '', 0)
    pg.sql("SELECT distlock.force_release('refused')")
