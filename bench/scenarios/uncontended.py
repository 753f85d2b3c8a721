"""Acquire and release of a lock that nobody else wants."""

from measure import scenario
from servers import sections
from ways import Bursts, Statements, etcd_pairs, redis_pairs

# What keeps a lock in a table beyond the transaction, as distlock does.
TABLES = ['dbkit', 'pglock', 'shedlock', 'plpgsql']


def pairs(pg, clients, durable=True):
    """A pair of each that PostgreSQL runs, through the socket."""
    floor = sections('floor')
    texts = {'distlock': sections('distlock')['pair'],
             'one update': floor['update'],
             'two updates': floor['two_updates']}
    texts.update({peer: sections(peer)['pair'] for peer in TABLES})
    texts.update({'advisory lock': floor['advisory'], 'FOR UPDATE': floor['for_update']})
    return {name: Statements(pg, text, clients, durable) for name, text in texts.items()}


def loops(pg, durable):
    """The same in a loop within the server."""
    floor = sections('floor')
    texts = {'distlock': sections('distlock')['loop'],
             'one update': floor['loop_update'],
             'two updates': floor['loop_two_updates'],
             'advisory lock': floor['loop_advisory']}
    texts.update({peer: sections(peer)['loop'] for peer in TABLES})
    return {'all': Bursts(pg, {name: (text, '') for name, text in texts.items()},
                          10 if durable else 100, durable)}


@scenario('slow-disk', 'Uncontended, durable, 1 ms added to every fdatasync', [
    'at most 1.08 of one durable UPDATE with 1 client, 1.05 with 8',
    'at most 0.56 of everything else that keeps the lock in a table, with 1 and 8 clients',
], seconds=(15, 185))
def slow_disk(s):
    """A pair is two statements, each its own transaction. Disks without a cache
    that may be trusted, network disks, and synchronous standbys are like that: a
    durable commit costs a flush, and little else matters. etcd is not among them,
    because the millisecond is added in the C library, which etcd does not use."""
    pg = s.servers.pg('slow')
    for clients, limit in ((1, 1.08), (8, 1.05)):
        ways = pairs(pg, clients)
        del ways['advisory lock']
        ways['Redis, always'] = redis_pairs(s.servers, 'always', clients, slow=True)
        title = '%d client%s' % (clients, '' if clients == 1 else 's')
        table = s.interleave('pairs through the socket, ' + title, 'us a pair', ways)
        if clients == 1:
            s.check('the millisecond is felt: one durable UPDATE never took less',
                    min(table.rows['one update']) >= 1000)
        s.ratio('%s, of one durable UPDATE' % title, table, 'distlock', 'one update', limit)
        for peer in TABLES:
            s.ratio('%s, of %s' % (title, peer), table, 'distlock', peer, 0.56)
        s.ratio('%s, of Redis with appendfsync always' % title, table, 'distlock', 'Redis, always')


@scenario('durable', 'Uncontended, durable, on this disk', [
    "at most 0.60 of dbkit's cost in a loop within the server",
    'through the socket at 8 clients no slower than Redis with appendfsync always',
], seconds=(16, 210))
def durable(s):
    """The same on the disk as it is. Redis runs with each of its three ways to
    write, etcd as it comes; only Redis with appendfsync always and etcd promise
    what PostgreSQL does."""
    pg = s.servers.pg()
    table = s.interleave('pairs in a loop within the server', 'us a pair', loops(pg, True))
    s.ratio("loop within the server, of dbkit", table, 'distlock', 'dbkit', 0.60)
    for peer in TABLES[1:]:
        s.ratio('loop within the server, of %s' % peer, table, 'distlock', peer)

    ways = pairs(pg, 8)
    for appendonly in ('always', 'everysec', 'no'):
        ways['Redis, ' + appendonly] = redis_pairs(s.servers, appendonly, 8)
    if s.servers.etcd():
        ways['etcd'] = etcd_pairs(s.servers, 8)
    else:
        s.note('etcd is left out: there is no etcd-server for this machine.')
    table = s.interleave('pairs through the socket, 8 clients', 'us a pair', ways)
    s.ratio('8 clients, of Redis with appendfsync always', table, 'distlock', 'Redis, always', 1.0)
    for other in TABLES + (['etcd'] if 'etcd' in ways else []):
        s.ratio('8 clients, of %s' % other, table, 'distlock', other)


@scenario('not-durable', 'Uncontended, not waiting for the disk', [
    "at most 0.75 of dbkit's cost in a loop within the server",
    "through the socket at 8 clients at least 1.25 times dbkit's throughput",
], seconds=(11, 180))
def not_durable(s):
    """synchronous_commit = off for all, and distlock.durable = off. What is left
    is the work of the processor."""
    pg = s.servers.pg()
    table = s.interleave('pairs in a loop within the server', 'us a pair', loops(pg, False))
    for peer in TABLES:
        s.ratio('loop within the server, of %s' % peer, table, 'distlock', peer,
                0.75 if peer == 'dbkit' else None)
    ways = pairs(pg, 8, durable=False)
    ways['Redis, no'] = redis_pairs(s.servers, 'no', 8)
    table = s.interleave('pairs through the socket, 8 clients', 'us a pair', ways)
    for peer in TABLES:
        s.ratio('8 clients, throughput, of %s' % peer, table, 'distlock', peer,
                at_least=1.25 if peer == 'dbkit' else None, throughput=True)
