"""The mirror of the locks in Redis: how far behind, how fast, at what cost."""

import os
import signal

from measure import scenario
from processes import private
from servers import NOT_DURABLE, call, free_port, sections
from ways import Bursts, Statements

from .handover import percentile
from .worker import await_sql

# A database for each; they differ in what is mirrored where.
NO_MIRROR, MIRROR, REFUSED, HUNG = 'no mirror', 'mirror', 'Redis refuses', 'Redis hangs'
DATABASES = {NO_MIRROR: 'bench_off', MIRROR: 'bench_on', REFUSED: 'bench_refused',
             HUNG: 'bench_hung'}
BOOK = 'distlock-mirror:bench_on:distlock:bench_on:{key}'
KEYS = "SELECT keys = %d FROM distlock.mirror_status WHERE database = 'bench_on'"
RATE = 5000


def mirrored(pg, wanted):
    """Waits until the mirrors of the databases are in these states."""
    await_sql(pg, "SELECT (SELECT string_agg(database || ' ' || state, ', ' ORDER BY database) "
              "FROM distlock.mirror_status) = '%s'"
              % ', '.join(sorted('%s %s' % (DATABASES[name], wanted[name]) for name in wanted)))


def worker_of(pg, name):
    return pg.sql("SELECT pid FROM distlock.worker_status WHERE database = '%s'" % DATABASES[name])


def for_locks(session, statement, locks):
    """A statement for each lock, whose key is k, a thousand in a transaction."""
    session.sql('''
        DO $locks$
        DECLARE
            k text;
        BEGIN
            FOR i IN 0 .. %d LOOP
                k := 'lock ' || i;
                %s;
                IF i %% 1000 = 999 THEN COMMIT; END IF;
            END LOOP;
        END $locks$''' % (locks - 1, statement))


class Lag:
    """A load of so many changes a second, and how long Redis takes to tell of them."""

    def __init__(self, s, name, redis, env, floor=False):
        self.name = name
        self.rates = []
        self.lost = 0
        self.command = [os.path.join(s.servers.bin, 'mirror_watch'), 'floor' if floor else 'lag',
                        redis.socket, name.replace(' ', '_') + ' ', str(RATE)]
        self.column = 1 if floor else 2
        self.env = env
        self.seconds = 0.0

    def warm_up(self, seconds):
        self.seconds = seconds
        call(self.command + ['0.5', '4'], self.env)

    def run(self):
        lines = call(self.command + [str(self.seconds), '4'], self.env).split('\n')
        self.rates.append(float(lines[0]))
        changes = [line.split() for line in lines[1:] if line]
        delays = [float(c[self.column]) for c in changes if c[1] != 'lost']
        self.lost += len(changes) - len(delays)
        return {self.name + ' p50': percentile(delays, 0.5),
                self.name + ' p99': percentile(delays, 0.99)}


class Reconciliation:
    """Time for each lock."""

    def __init__(self, s, redis, env, locks, command):
        self.command = [os.path.join(s.servers.bin, 'mirror_watch'), 'reconcile', redis.socket,
                        BOOK, str(locks), command]
        self.env = env
        self.locks = locks

    def warm_up(self, _seconds):
        self.run()

    def run(self):
        complete, connected = (float(n) * 1e6 / self.locks for n in call(self.command, self.env).split())
        if self.command[-1] == 'FLUSHALL':
            return {'distlock, all keys there': complete, 'distlock, done': connected}
        return {'distlock, nothing has changed': connected}


class Pipeline:
    """As many keys by a client that does nothing else."""

    def __init__(self, s, redis, value, locks, commands):
        self.command = [os.path.join(s.servers.bin, 'mirror_watch'), 'pipeline', redis.socket,
                        'distlock:bench_on:lock ', value, str(locks), commands]
        self.locks = locks

    def warm_up(self, _seconds):
        self.run()

    def run(self):
        return float(call(self.command)) * 1e6 / self.locks


def measure_cost(s, pg):
    pair = sections('distlock')['pair']
    for title, clients, durable in (('1 client, durable', 1, True),
                                    ('8 clients, not durable', 8, False)):
        table = s.interleave('pairs, ' + title, 'us a pair', {
            name: Statements(pg, pair, clients, durable, database)
            for name, database in DATABASES.items()})
        compare(s, table, title, limits=clients == 1)
    table = s.interleave('pairs in a loop within the server', 'us a pair', {
        name: Bursts(pg, {name: (sections('distlock')['loop'], '')}, 200, database=database)
        for name, database in DATABASES.items()})
    compare(s, table, 'loop within the server')


def compare(s, table, title, limits=True):
    for name, limit in ((MIRROR, 1.03), (REFUSED, 1.005), (HUNG, 1.005)):
        s.ratio('%s: %s, of no mirror' % (title, name), table, name, NO_MIRROR,
                limit if limits else None)


def measure_lag(s, pg, redis):
    lag = Lag(s, 'distlock', redis, pg.environment(database=DATABASES[MIRROR]))
    ways = {'distlock': lag, 'floor': Lag(s, 'SET and DEL in Redis itself', redis, None, True)}
    table = s.interleave('lag at %s changes a second' % '{:,}'.format(RATE), 'us', ways,
                         0.6 if s.quick else 3.0, rounds=None if s.quick else 7, turns=1)
    s.value('lag: p50', table.rows['distlock p50'], 'us', 1000)
    s.value('lag: p99', table.rows['distlock p99'], 'us', 10000)
    s.value('lag: changes a second', lag.rates, '', at_least=0.95 * RATE)
    s.value('changes of which Redis did not tell', lag.lost, '')


def measure_reconciliation(s, pg, redis, other):
    locks = 10000 if s.quick else 100000
    words = '{:,}'.format(locks)
    session = pg.session(NOT_DURABLE, DATABASES[MIRROR])
    session.sql("SELECT distlock.release_all('mine')")          # what the load has left
    await_sql(pg, KEYS % 0)
    before = redis.used_memory()
    without = private(worker_of(pg, NO_MIRROR))
    s.progress.show('%s: filling %s locks' % (s.name, words))
    for_locks(session, "PERFORM distlock.acquire_with_token(k, 'mine', '1 h', owner => 'owner')", locks)
    await_sql(pg, KEYS % locks)
    s.value('worker without a mirror, private', without, 'kB')
    s.value('worker with a mirror, %s locks, private' % words, private(worker_of(pg, MIRROR)), 'kB')
    s.value('memory of Redis for each lock', (redis.used_memory() - before) / locks, 'bytes')

    value = redis.command('GET', 'distlock:bench_on:lock 0')
    env = pg.environment(database=DATABASES[MIRROR])
    table = s.interleave('reconciliation of %s locks' % words, 'us a lock', {
        'after FLUSHALL': Reconciliation(s, redis, env, locks, 'FLUSHALL'),
        'bare pipeline, SET': Pipeline(s, other, value, locks, 'set'),
        'bare pipeline, SET, HSET': Pipeline(s, other, value, locks, 'write'),
        'bare pipeline, HGET, GET, SET, HSET': Pipeline(s, other, value, locks, 'all'),
        'connected anew': Reconciliation(s, redis, env, locks, 'CLIENT KILL TYPE normal SKIPME yes'),
    }, rounds=None if s.quick else 9, turns=1)
    s.ratio('all keys there, rate, of a bare pipeline of SET', table, 'distlock, all keys there',
            'bare pipeline, SET', at_least=0.6, throughput=True)
    for what, own in (('all keys there', 'distlock, all keys there'), ('done', 'distlock, done')):
        for commands in ('SET', 'SET, HSET', 'HGET, GET, SET, HSET'):
            if (own, commands) != ('distlock, all keys there', 'SET'):
                s.ratio('%s, rate, of a bare pipeline of %s' % (what, commands), table, own,
                        'bare pipeline, ' + commands, throughput=True)
    session.close()


@scenario('mirror', 'The mirror in Redis', [
    "full reconciliation of 100,000 locks at least 0.6 of a bare hiredis pipeline's rate",
    'lag at 5,000 changes a second: p50 at most 1 ms, p99 10 ms',
    'acquire + release at most 1.03 with the mirror on, 1.00 (less than 1.005) with Redis down',
], seconds=(20, 200))
def mirror(s):
    """distlock is preloaded. The cost: the same in four databases of one server,
    whose worker has no mirror, a mirror, one that is refused a connection, and one
    whose Redis was stopped by a signal after it had connected. With 8 clients on
    few processors, the worker and Redis take their part of them. The lag is that from
    when the client knows of the commit until it has Redis' notification of the
    change; the changes are durable, by 4 clients. Reconciliation: FLUSHALL empties
    Redis; counted is from when the mirror has noticed until all keys are there, and
    until it is done, which includes looking for what should not be there. The bare
    pipeline is one connection by hiredis, in which SET with a time to live, or
    more, follows the other; the mirror keeps a book as well, an HSET for each SET,
    and looks before it writes, see src/README.mirror.md. With --quick it is 10,000
    locks."""
    servers = s.servers
    pg = servers.pg('mirror')
    redis, other, stopped = (servers.redis('no', name=name) for name in ('mirror', 'bare', 'stopped'))
    urls = {NO_MIRROR: '', MIRROR: 'unix://' + redis.socket, HUNG: 'unix://' + stopped.socket,
            REFUSED: 'redis://127.0.0.1:%d' % free_port()}
    for name, database in DATABASES.items():
        pg.sql("CREATE DATABASE %s; ALTER DATABASE %s SET distlock.redis_url = '%s'"
               % (database, database, urls[name]))
        pg.sql('CREATE EXTENSION distlock', database=database)
    mirrored(pg, {MIRROR: 'connected', REFUSED: 'disconnected', HUNG: 'connected'})
    stopped.process.send_signal(signal.SIGSTOP)
    try:
        mirrored(pg, {MIRROR: 'connected', REFUSED: 'disconnected', HUNG: 'disconnected'})
        measure_cost(s, pg)
        measure_lag(s, pg, redis)
        measure_reconciliation(s, pg, redis, other)
    finally:
        stopped.process.send_signal(signal.SIGCONT)
