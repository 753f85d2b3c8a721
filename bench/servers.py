"""The private servers, and the programs that put load on them.

Everything is in the working directory: data, sockets, logs.  A server is
started when a scenario first asks for it.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time

NOT_DURABLE = '-c synchronous_commit=off -c distlock.durable=off'

# No checkpoint in the middle of a round; everything else as PostgreSQL has it.
SETTINGS = [
    "listen_addresses = ''",
    "shared_buffers = '512MB'",
    "max_wal_size = '8GB'",
    "checkpoint_timeout = '1h'",
]

# name: settings, through the slow disk?
SERVERS = {
    'main': ([], False),
    'slow': ([], True),
    # a thousand waiters
    'crowd': (["max_connections = 1100"], False),
    # the lock table large enough for 30,000 keys in a transaction
    'batch': (["max_locks_per_transaction = 1024", "distlock.max_keys_per_transaction = 100000"], False),
    'worker': (["shared_preload_libraries = 'distlock'", "distlock.events = ''",
                "autovacuum = off"], False),
    'mirror': (["shared_preload_libraries = 'distlock'"], False),
}


class Servers:
    def __init__(self, work, pgbin):
        self.work = work
        self.bin = os.path.join(work, 'bin')
        self.run = os.path.join(work, 'run')
        self.logs = os.path.join(work, 'server-logs')
        os.mkdir(self.logs)
        self.pgbin = pgbin
        self.postgres = {}
        self.others = {}
        self.template = None

    def pg(self, name='main'):
        """The PostgreSQL of that name; its peers are set up."""
        if name not in self.postgres:
            settings, slow = SERVERS[name]
            Postgres(self, name, 5501 + list(SERVERS).index(name), settings, slow)
        return self.postgres[name]

    def redis(self, appendonly, slow=False, name=None):
        name = 'redis-' + (name or appendonly + ('-slow' if slow else ''))
        if name not in self.others:
            self.others[name] = Redis(self, name, appendonly, slow)
        return self.others[name]

    def etcd(self):
        """None if the machine has no etcd."""
        if 'etcd' not in self.others:
            program = os.path.join(self.bin, 'etcd')
            self.others['etcd'] = Etcd(self, program) if os.path.exists(program) else None
        return self.others['etcd']

    def preload(self, slow):
        env = dict(os.environ)
        if slow:
            env['LD_PRELOAD'] = os.path.join(self.bin, 'slow_disk.so')
        return env

    def stop(self):
        for server in list(self.postgres.values()) + list(self.others.values()):
            if server:
                server.stop()

    def versions(self):
        found = {'PostgreSQL': first_line([os.path.join(self.pgbin, 'postgres'), '--version'])}
        for name, args in (('redis-server', ['--version']), ('etcd', ['--version'])):
            program = os.path.join(self.bin, name)
            if os.path.exists(program):
                found[name] = first_line([program] + args)
        return found


def first_line(command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True,
                          check=True).stdout.split('\n')[0]


def call(command, env=None, text=None):
    """The standard output of a command that must succeed."""
    done = subprocess.run(command, env=env, input=text, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError('%s: %s' % (os.path.basename(command[0]), done.stderr.strip()[-800:]))
    return done.stdout


def sections(peer):
    """The sections of a file in bench/peers."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'peers', peer + '.sql')
    with open(path) as file:
        parts = re.split(r'^--- (\w+)\n', file.read(), flags=re.M)
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2])}


PEERS = ['floor', 'distlock', 'dbkit', 'pglock', 'shedlock', 'plpgsql']


class Postgres:
    def __init__(self, servers, name, port, settings, slow):
        self.servers = servers
        self.name = name
        self.port = port
        self.data = os.path.join(servers.work, 'pg-' + name)
        self.env = dict(os.environ, PGHOST=servers.run, PGPORT=str(port), PGUSER='postgres',
                        PGDATABASE='postgres')
        servers.postgres[name] = self           # to be stopped, even if it starts badly
        if servers.template is None:
            template = os.path.join(servers.work, 'pg-template')
            call([self.program('initdb'), '-D', template, '-U', 'postgres', '--auth=trust',
                  '--no-sync', '--encoding=UTF8', '--locale=C.UTF-8'])
            servers.template = template
        shutil.copytree(servers.template, self.data)
        with open(os.path.join(self.data, 'postgresql.conf'), 'a') as conf:
            for line in SETTINGS + settings:
                conf.write(line + '\n')
            conf.write("unix_socket_directories = '%s'\n" % servers.run)
        self.slow = slow
        self.start()
        for peer in PEERS:
            self.sql('SET client_min_messages = warning;\n' + sections(peer)['setup'])

    def program(self, name):
        return os.path.join(self.servers.pgbin, name)

    def start(self):
        log = os.path.join(self.servers.logs, 'pg-%s.log' % self.name)
        with open(log + '.start', 'w') as output:       # not a pipe: the server keeps it open
            subprocess.run([self.program('pg_ctl'), '-D', self.data, '-w', '-t', '60', '-l', log,
                            '-o', '-p %d' % self.port, 'start'], check=True, stdout=output,
                           stderr=output, env=self.servers.preload(self.slow))

    def stop(self):
        subprocess.run([self.program('pg_ctl'), '-D', self.data, '-w', '-m', 'fast', 'stop'],
                       stdout=subprocess.DEVNULL, check=False)

    def restart(self):
        self.stop()
        self.start()

    def environment(self, options='', database=None):
        env = dict(self.env, PGOPTIONS=options)
        if database:
            env['PGDATABASE'] = database
        return env

    def sql(self, text, options='', database=None):
        """What it returns, as lines with fields separated by |."""
        return call([self.program('psql'), '-XqAt', '-v', 'ON_ERROR_STOP=1', '-v',
                     'spi_lock=' + os.path.join(self.servers.bin, 'spi_lock.so')],
                    self.environment(options, database), text).strip()

    def session(self, options='', database=None):
        return Session(self, options, database)


class Session:
    """A session that stays."""

    def __init__(self, server, options='', database=None):
        self.server = server
        self.process = subprocess.Popen(
            [server.program('psql'), '-XqAt'], env=server.environment(options, database),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def sql(self, text):
        self.start(text)
        return self.finish()

    def start(self, text):
        self.process.stdin.write(text.rstrip().rstrip(';') + ';\n\\echo ::end\n')
        self.process.stdin.flush()

    def finish(self):
        lines = []
        for line in self.process.stdout:
            if line == '::end\n':
                break
            lines.append(line)
        else:
            raise RuntimeError('a session ended: ' + ''.join(lines))
        answer = ''.join(lines).strip()
        if 'ERROR:' in answer or 'FATAL:' in answer:
            raise RuntimeError(answer)
        return answer

    def provide_own_time(self):
        """The function pg_temp.own_time(), see clients/own_time.c."""
        self.sql("CREATE FUNCTION pg_temp.own_time() RETURNS float LANGUAGE c AS '%s'"
                 % os.path.join(self.server.servers.bin, 'own_time.so'))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Redis:
    def __init__(self, servers, name, appendonly, slow):
        self.socket = os.path.join(servers.run, name + '.sock')
        directory = os.path.join(servers.work, name)
        os.mkdir(directory)
        appending = ['--appendonly', 'no']
        if appendonly != 'no':
            appending = ['--appendonly', 'yes', '--appendfsync', appendonly]
        with open(os.path.join(servers.logs, name + '.log'), 'w') as log:
            self.process = subprocess.Popen(
                [os.path.join(servers.bin, 'redis-server'), '--port', '0', '--unixsocket',
                 self.socket, '--dir', directory, '--save', '', '--daemonize', 'no'] + appending,
                stdout=log, stderr=log, env=servers.preload(slow))
        for _ in range(200):
            if os.path.exists(self.socket):
                break
            time.sleep(0.05)
        time.sleep(0.1)

    def command(self, *words):
        return call(['redis-cli', '-s', self.socket] + list(words)).strip()

    def used_memory(self):
        return int(re.search(r'^used_memory:(\d+)', self.command('INFO', 'memory'), re.M).group(1))

    def stop(self):
        self.process.terminate()
        self.process.wait()


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Etcd:
    def __init__(self, servers, program):
        self.port = free_port()
        client = 'http://127.0.0.1:%d' % self.port
        peer = 'http://127.0.0.1:%d' % free_port()
        with open(os.path.join(servers.logs, 'etcd.log'), 'w') as log:
            self.process = subprocess.Popen(
                [program, '--name', 'bench', '--data-dir', os.path.join(servers.work, 'etcd'),
                 '--listen-client-urls', client, '--advertise-client-urls', client,
                 '--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer,
                 '--initial-cluster', 'bench=' + peer, '--log-level', 'error'],
                stdout=log, stderr=log)
        for _ in range(100):
            time.sleep(0.1)
            with socket.socket() as s:
                if s.connect_ex(('127.0.0.1', self.port)) == 0:
                    break
        time.sleep(1)           # it elects itself

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
