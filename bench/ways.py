"""How load is made: statements through the socket, loops within the server, clients.

Each figure is a time in microseconds: of a turn, as all clients together do
them; so 8 clients that do 10,000 a second have 100.
"""

import os
import re
import subprocess

from servers import NOT_DURABLE


class Client:
    """One of bench/clients that does the same again and again, see clients/turns.h;
    it is connected at the warm-up and stays."""

    def __init__(self, program, arguments, env=None):
        self.command = [program] + [str(a) for a in arguments]
        self.env = env
        self.process = None
        self.seconds = 0.1

    def warm_up(self, seconds):
        self.process = subprocess.Popen(self.command, env=self.env, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.measure(0.1)
        self.seconds = seconds

    def measure(self, seconds):
        """Turns a second, and how many of them were granted the lock."""
        rates = ''
        try:
            self.process.stdin.write('%g\n' % seconds)
            self.process.stdin.flush()
            rates = self.process.stdout.readline()
        except BrokenPipeError:
            pass
        if not rates:
            raise RuntimeError('%s: %s' % (os.path.basename(self.command[0]),
                                           self.process.stderr.read().strip()))
        return [float(rate) for rate in rates.split()]

    def run(self):
        return self.figures(*self.measure(self.seconds))

    def figures(self, rate, _granted):
        return 1e6 / rate

    def close(self):
        if self.process:
            self.process.communicate()


class Statements(Client):
    """Statements in PostgreSQL, see clients/pg_turns.c."""

    def __init__(self, server, text, clients=1, durable=True, database=None):
        statements = [s for s in re.split(r';\s*(?:\n|$)', text.strip()) if s]
        super().__init__(os.path.join(server.servers.bin, 'pg_turns'), [clients] + statements,
                         server.environment('' if durable else NOT_DURABLE, database))


def redis_pairs(servers, appendonly, clients, slow=False):
    return Client(os.path.join(servers.bin, 'redis_pairs'),
                  [servers.redis(appendonly, slow).socket, clients])


def etcd_pairs(servers, clients):
    return Client(os.path.join(servers.bin, 'etcd_pairs'), [servers.etcd().port, clients])


class Bursts:
    """Loops within the server, in one session, that take turns every few
    milliseconds: in one DO block, a burst of each, again and again.  Its figures
    are a row for each way, so that a single one takes all turns of a round.

    ways: name: (body of the loop, what to do after each burst), in PL/pgSQL with
    the variables i, k and t; after a burst, time is not counted.  A third element
    says how many things a turn does.

    Time is that of clients/own_time.c: it stands still while the session could run
    and somebody else has the processor.
    """

    def __init__(self, server, ways, turns, durable=False, declare='', database=None):
        self.session = server.session('' if durable else NOT_DURABLE, database)
        self.session.provide_own_time()
        self.ways = ways
        self.turns = turns
        self.declare = declare
        self.bursts = 1

    def warm_up(self, seconds):
        """That long for each way."""
        self.run()
        if self.took < 1:
            self.run()
        self.bursts = max(1, int(seconds * len(self.ways) * 2 / self.took))

    def run(self):
        parts = []
        for number, (body, after, *_) in enumerate(self.ways.values()):
            parts.append('''
                began := pg_temp.own_time();
                FOR i IN 1 .. %d LOOP %s END LOOP;
                IF burst > 0 THEN
                    spent[%d] := spent[%d] + pg_temp.own_time() - began;
                END IF;
                %s''' % (self.turns, body, number + 1, number + 1, after))
        answer = self.session.sql('''
            DO $bursts$
            DECLARE
                all_began timestamptz := clock_timestamp();
                began float;
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
