"""How load is made: scripts for pgbench, loops within the server, our clients.

Each figure is a time in microseconds: of a turn, as all clients together do
them; so 8 clients that do 10,000 a second have 100.
"""

import os
import re
import tempfile

from servers import NOT_DURABLE, call


class Pgbench:
    """A script for pgbench, prepared, a key or row for each client."""

    def __init__(self, server, script, clients=1, durable=True, options='', arguments=()):
        self.server = server
        self.clients = clients
        self.options = options + ('' if durable else ' ' + NOT_DURABLE)
        self.arguments = list(arguments)
        self.count = 20
        with tempfile.NamedTemporaryFile('w', suffix='.sql', delete=False,
                                         dir=os.path.join(server.servers.work, 'tmp')) as file:
            file.write(script + '\n')
            self.file = file.name

    def warm_up(self, seconds):
        """Find out how many turns take that long."""
        for _ in range(2):
            time = self.run()
            per_client = time * self.clients / 1e6
            self.count = max(10, int(seconds / per_client * (0.2 if _ == 0 else 1)))

    def run(self):
        output = call([self.server.program('pgbench'), '-n', '-M', 'prepared',
                       '-c', str(self.clients), '-j', str(min(self.clients, os.cpu_count() or 1)),
                       '-t', str(self.count), '-f', self.file] + self.arguments,
                      self.server.environment(self.options))
        failed = re.search(r'number of failed transactions: (\d+)', output)
        if failed and failed.group(1) != '0':
            raise RuntimeError('pgbench: %s transactions failed' % failed.group(1))
        return 1e6 / float(re.search(r'^tps = ([0-9.]+)', output, re.M).group(1))


class Bursts:
    """Loops within the server, in one session, that take turns every few
    milliseconds: in one DO block, a burst of each, again and again.  Its figures
    are a row for each way, so that a single one takes all turns of a round.

    ways: name: (body of the loop, what to do after each burst), in PL/pgSQL with
    the variables i, k and t; after a burst, time is not counted.  A third element
    says how many things a turn does.
    """

    def __init__(self, server, ways, turns, durable=False, declare='', database=None):
        self.session = server.session('' if durable else NOT_DURABLE, database)
        self.ways = ways
        self.turns = turns
        self.declare = declare
        self.bursts = 1

    def warm_up(self, seconds):
        """That long for each way."""
        self.run()
        self.run()
        self.bursts = max(1, int(seconds * len(self.ways) * 2 / self.took))

    def run(self):
        parts = []
        for number, (body, after, *_) in enumerate(self.ways.values()):
            parts.append('''
                began := clock_timestamp();
                FOR i IN 1 .. %d LOOP %s END LOOP;
                IF burst > 0 THEN
                    spent[%d] := spent[%d] + extract(epoch FROM clock_timestamp() - began);
                END IF;
                %s''' % (self.turns, body, number + 1, number + 1, after))
        answer = self.session.sql('''
            DO $bursts$
            DECLARE
                all_began timestamptz := clock_timestamp();
                began timestamptz;
                spent float[] := array_fill(0::float, ARRAY[%d]);
                k text;
                t text;
                %s
            BEGIN
                FOR burst IN 0 .. %d LOOP
                    %s
                END LOOP;
                PERFORM set_config('bench.time', array_to_string(spent, ' ') || ' ' ||
                    extract(epoch FROM clock_timestamp() - all_began), false);
            END $bursts$;
            SHOW bench.time''' % (len(self.ways), self.declare, self.bursts, ''.join(parts)))
        figures = [float(f) for f in answer.split()]
        self.took = figures.pop()
        return {name: figure * 1e6 / self.turns / self.bursts / (way[2] if len(way) > 2 else 1)
                for (name, way), figure in zip(self.ways.items(), figures)}

    def close(self):
        self.session.close()


class Client:
    """One of our own clients, which prints turns a second."""

    def __init__(self, program, arguments):
        self.program = program
        self.arguments = [str(a) for a in arguments]
        self.seconds = 0.1

    def warm_up(self, seconds):
        self.run()
        self.seconds = seconds

    def run(self):
        return 1e6 / float(call([self.program] + self.arguments + [str(self.seconds)]))


def redis_pairs(servers, appendonly, clients, slow=False):
    return Client(os.path.join(servers.bin, 'redis_pairs'),
                  [servers.redis(appendonly, slow).socket, clients])


def etcd_pairs(servers, clients):
    return Client(os.path.join(servers.bin, 'etcd_pairs'), [servers.etcd().port, clients])
