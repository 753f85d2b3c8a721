"""From the release of a lock to the next in the queue."""

import os
import statistics

from measure import scenario
from servers import NOT_DURABLE, call

HOLD_US = 1000
ACQUIRE = "SELECT distlock.acquire('hot', '1 min', wait => '2 min')"
RELEASE = "SELECT distlock.release('hot', $1)"


def percentile(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class Handover:
    """clients/handover; statements: acquire and release, or none for Redis."""

    def __init__(self, s, name, server, clients, statements=None, options='', settle=0.0):
        self.name = name
        self.clients = clients
        self.settle = settle            # seconds in front that are not counted
        self.seconds = 0.2
        self.fairness = []
        self.longest = []
        self.env = None
        self.program = os.path.join(s.servers.bin, 'handover')
        if statements:
            self.arguments = ['postgres', ''] + list(statements)
            self.env = server.environment(options)
        else:
            self.arguments = ['redis', server.socket]

    def warm_up(self, seconds):
        self.seconds = 0.1
        if not self.settle:
            self.run()
        self.seconds = seconds
        self.fairness.clear()
        self.longest.clear()

    def run(self):
        output = call([self.program, str(self.clients), str(self.seconds + self.settle),
                       str(HOLD_US)] + self.arguments, self.env)
        grants = sorted((float(granted), float(asked), float(released), int(client))
                        for client, asked, granted, released in
                        (line.split() for line in output.splitlines()))
        delays = []
        holds = []
        waits = []
        for before, grant in zip(grants, grants[1:]):
            if grant[0] < before[2]:
                raise RuntimeError('%s: two had the lock' % self.name)
            # Whoever asked later did not wait for that release.
            if grant[1] < before[2] and before[0] > self.settle * 1e6:
                delays.append(grant[0] - before[2])
                holds.append(grant[2] - grant[0])
                waits.append(grant[0] - grant[1])
        counts = [0] * self.clients
        for grant in grants:
            if grant[0] < self.seconds * 1e6:
                counts[grant[3]] += 1
        self.fairness.append(min(counts) / max(counts))
        self.longest.append(max(waits) / (self.clients * statistics.mean(holds)))
        return {self.name + ' p50': percentile(delays, 0.5), self.name + ' p99': percentile(delays, 0.99)}


@scenario('hand-over', 'Hand-over of one hot key, 1 ms of work', [
    'p50 against pg_advisory_lock with 2 / 16 clients: not waiting for the disk at most 1.5 / 1.3, '
    'durable at most 2.4 / 2.1',
    'p99 at most 2.5 times p50',
    'least to most grants per client at least 0.9',
    'longest wait at most twice clients times hold time',
    'with 1,000 waiters: p99 at most 5 ms',
], seconds=(17, 320))
def handover(s):
    """From the moment at which the holder sends its release to the moment at
    which the next one knows that it has the lock, both in one clock, in a client
    in C. Counted is who had asked before that release. Redis: SET NX PX; the
    script that releases publishes a message, at which everybody who waits tries
    again. The libraries that keep a lock in a table do not wait but poll, so
    they are not among them."""
    pg = s.servers.pg()
    redis = s.servers.redis('no')
    pg.sql("SELECT distlock.force_release('hot')")
    seconds = 0.4 if s.quick else 0.8
    for clients, limit, durable_limit in ((2, 1.5, 2.4), (16, 1.3, 2.1)):
        ways = {
            'pg_advisory_lock': Handover(s, 'pg_advisory_lock', pg, clients, (
                'SELECT pg_advisory_lock(1)', 'SELECT pg_advisory_unlock(1)')),
            'distlock': Handover(s, 'distlock', pg, clients, (ACQUIRE, RELEASE), NOT_DURABLE),
            'distlock durable': Handover(s, 'distlock durable', pg, clients, (ACQUIRE, RELEASE)),
            'FOR UPDATE': Handover(s, 'FOR UPDATE', pg, clients, (
                'BEGIN; SELECT n FROM counter WHERE id = 0 FOR UPDATE', 'COMMIT;')),
            'Redis pub/sub': Handover(s, 'Redis pub/sub', redis, clients),
        }
        table = s.interleave('hand-over, %d clients' % clients, 'us', ways, seconds, turns=1)
        for name, most in (('distlock', limit), ('distlock durable', durable_limit)):
            what = '%d clients, %s' % (clients, 'durable' if 'durable' in name else 'not durable')
            s.ratio(what + ': p50, of pg_advisory_lock', table, name + ' p50',
                    'pg_advisory_lock p50', most)
            s.ratio(what + ': p99, of p50', table, name + ' p99', name + ' p50', 2.5)
            s.value(what + ': least to most grants per client', ways[name].fairness, '', at_least=0.9)
            s.value(what + ': longest wait, of clients times hold time', ways[name].longest, '', 2)
        s.ratio('%d clients: p50, of Redis pub/sub' % clients, table, 'distlock p50',
                'Redis pub/sub p50')

    if s.quick:
        s.note('1,000 waiters are only measured in the full form.')
        return
    crowd = s.servers.pg('crowd')
    table = s.interleave('hand-over, 1,000 waiters', 'us', {
        'distlock': Handover(s, 'distlock', crowd, 1000, (ACQUIRE, RELEASE), NOT_DURABLE, settle=1.5),
        'distlock durable': Handover(s, 'distlock durable', crowd, 1000, (ACQUIRE, RELEASE), settle=1.5),
        'pg_advisory_lock': Handover(s, 'pg_advisory_lock', crowd, 1000, (
            'SELECT pg_advisory_lock(1)', 'SELECT pg_advisory_unlock(1)'), settle=1.5),
    }, 1.5, rounds=7, turns=1)
    for name in ('distlock', 'distlock durable'):
        s.value('1,000 waiters, %s: p99' % ('durable' if 'durable' in name else 'not durable'),
                table.rows[name + ' p99'], 'us', 5000)
    s.note('With 1,000 waiters the first 1.5 seconds are not counted, in which they queue up.')
