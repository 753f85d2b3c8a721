"""What is done with a block.

	sql		run by psql, all of a file in one session, unless the first line says
			"-- session 2" or the like; "-- session 2: waits" goes on with the next
			block while that one waits; "-- after a moment": again until it is right
	bash	run; a script with a name in its second line is saved under it, then run;
			"# after a moment" likewise
	crontab	the command of each line is run
	ini		each setting must be there and take the value
	json	must be JSON
	sh		for the reader's machine: only its syntax is checked
	python	likewise
	text	directly after one that is run: its output, which is compared; else only
			shown, and then there must be no call of distlock in it
	others	only shown

A block whose output has an ERROR may fail, others must not.  With the comment
"<!-- run by FILE -->" before it a block is not run, but must be in that file.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time

from . import markdown, output, psql

REDIS = re.compile(r'redis://127\.0\.0\.1:6379(/\d+)?')
SESSION = re.compile(r'^-- session (\w+)(: waits)?\b')
CALL = re.compile(r'\b(SELECT|CALL|PERFORM)\b[^\n]*\bdistlock\.\w+\(', re.I)
PATIENCE = 30                   # seconds, for "after a moment"


def treatment(block):
    """In one word."""
    if block.is_output:
        return 'output'
    if block.elsewhere:
        return 'elsewhere'
    return {'sql': 'sql', 'bash': 'bash', 'crontab': 'crontab', 'ini': 'ini',
            'json': 'json', 'sh': 'syntax', 'python': 'python'}.get(
                block.language, 'shown')


def run_file(name, report, update):
    blocks = markdown.blocks(name)
    todo = [block for block in blocks if not block.is_output]
    if not has_runnable(name):
        run_blocks(name, todo, report, None)
        return
    with Place(name, blocks) as place:
        run_blocks(name, todo, report, place)
    if update:
        write_outputs(name, blocks)


def has_runnable(name):
    return any(treatment(block) in ('sql', 'bash', 'crontab', 'ini')
               for block in markdown.blocks(name))


def run_blocks(name, todo, report, place):
    for block in todo:
        kind = treatment(block)
        what = '%s %s' % (block.place, block.language or 'text')
        try:
            if kind == 'shown':
                report.only_shown(block.language or 'text')
                if CALL.search(block.text) and block.language in ('', 'text'):
                    report.result(what, ['calls distlock, but is not run'])
                continue
            problem = globals()['do_' + kind](block, place)
        except psql.Died as death:
            problem = ['psql has ended after:'] + death.output.split('\n')
            place.forget_dead()
        except Exception as error:      # pylint: disable=broad-except
            problem = ['%s: %s' % (type(error).__name__, error)]
        if kind in ('syntax', 'python'):
            report.only_shown(block.language)
            what += ' (syntax)'
        elif kind == 'elsewhere':
            what += ' (in %s)' % block.elsewhere
        if problem is not LATER:
            report.result(what, problem)
        if place:
            place.see_who_came_through(report, block)
    if place:
        place.wait_for_all(report)


class Later:
    """The block waits; it is reported when it has come through."""


LATER = Later()


class Place:
    """A database, a directory, and sessions."""

    def __init__(self, name, blocks):
        self.name = 'docs_' + re.sub(r'\W+', '_', name.lower())[-50:]
        self.blocks = blocks
        self.sessions = {}
        self.waiting = []           # (session, block)

    def __enter__(self):
        self.redis = os.environ.get('DISTLOCK_DOCS_REDIS')
        self.roles = self.names('SELECT rolname FROM pg_roles')
        self.databases = self.names('SELECT datname FROM pg_database')
        psql.query('CREATE DATABASE %s' % self.name)
        creates = any(block.language == 'sql' and 'CREATE EXTENSION distlock' in block.text
                      for block in self.blocks)
        if not creates:
            psql.query('CREATE EXTENSION distlock', database=self.name)
        self.directory = tempfile.TemporaryDirectory(prefix='docs-')
        self.environment = dict(os.environ, PGDATABASE=self.name, LC_ALL='C.UTF-8',
                                PGTZ='UTC', PAGER='cat')
        if self.redis:
            self.provide_redis_cli()
        return self

    def __exit__(self, *exception):
        for session in self.sessions.values():
            session.process.kill()
            session.close()
        for gid, database in psql.query('SELECT gid, database FROM pg_prepared_xacts'):
            psql.query("ROLLBACK PREPARED '%s'" % gid, database=database)
        psql.query('ALTER SYSTEM RESET ALL')
        psql.query('SELECT pg_reload_conf()')
        for database in self.names('SELECT datname FROM pg_database') - self.databases:
            psql.query('DROP DATABASE "%s" WITH (FORCE)' % database)
        for role in self.names('SELECT rolname FROM pg_roles') - self.roles:
            psql.query('DROP ROLE "%s"' % role)
        if self.redis:
            subprocess.run(['redis-cli', '-s', self.redis, 'FLUSHALL'], check=True,
                           stdout=subprocess.DEVNULL)
        self.directory.cleanup()

    @staticmethod
    def names(sql):
        return {row[0] for row in psql.query(sql)}

    def provide_redis_cli(self):
        """In the place of the server that a reader has on his machine."""
        directory = os.path.join(self.directory.name, 'bin')
        os.mkdir(directory)
        program = os.path.join(directory, 'redis-cli')
        real = subprocess.run(['sh', '-c', 'command -v redis-cli'], check=True,
                              capture_output=True, text=True).stdout.strip()
        with open(program, 'w', encoding='utf-8') as file:
            file.write('#!/bin/sh\nexec %s -s %s "$@"\n' % (real, self.redis))
        os.chmod(program, 0o755)
        self.environment['PATH'] = directory + ':' + self.environment['PATH']

    def translated(self, text):
        """With the address of the Redis that is there."""
        if not REDIS.search(text):
            return text
        if not self.redis:
            raise RuntimeError('needs a Redis: see DISTLOCK_DOCS_REDIS')
        return REDIS.sub(lambda match: 'unix://%s?db=%s' % (
            self.redis, (match.group(1) or '/0')[1:]), text)

    def translated_back(self, text):
        if self.redis:
            text = re.sub(r'unix://%s\?db=(\d+)' % re.escape(self.redis),
                          r'redis://127.0.0.1:6379/\1', text)
            text = text.replace('unix://%s' % self.redis, 'redis://127.0.0.1:6379/0')
        return text

    def session(self, name):
        if name not in self.sessions:
            self.sessions[name] = psql.Session(self.environment, self.directory.name)
        return self.sessions[name]

    def forget_dead(self):
        for name, session in list(self.sessions.items()):
            try:
                session.process.wait(1)
            except subprocess.TimeoutExpired:
                continue
            session.close()
            del self.sessions[name]

    def see_who_came_through(self, report, latest):
        """Those who waited for what the latest block did; who still waits has until
        the next one."""
        for session, block in list(self.waiting):
            if block is not latest and not self.sleeps(session):
                self.waiting.remove((session, block))
                report.result('%s sql' % block.place,
                              compare(block, self.translated_back(session.finish())))

    def wait_for_all(self, report):
        for session, block in self.waiting:
            try:
                problem = compare(block, self.translated_back(session.finish()))
            except psql.Died as death:
                problem = ['psql has ended after:', death.output]
            report.result('%s sql' % block.place, problem)
        self.waiting = []

    def sleeps(self, session):
        rows = psql.query("SELECT 1 FROM pg_stat_activity WHERE pid = %d AND state = 'active' "
                          "AND wait_event_type IN ('Lock', 'Extension')" % session.pid,
                          database='postgres')
        return bool(rows)


def ends_well(text):
    """Whether the last statement is complete."""
    lines = [re.sub(r'\s--\s.*$', '', line).rstrip() for line in text.split('\n')]
    lines = [line for line in lines if line and not line.lstrip().startswith('--')]
    return bool(lines) and (lines[-1].endswith(';') or '\\' in lines[-1])


def may_fail(block):
    return block.output is not None and \
        any(re.match(r'^(ERROR|FATAL):', line) for line in block.output.lines)


def compare(block, printed):
    """None, or what is wrong; a failure that is not shown has ended psql."""
    lines = printed.split('\n')
    block.printed = lines
    if block.output is None or output.same(block.output.lines, lines):
        return None
    return ['the output is'] + output.shown(lines, block.output.lines) + \
        ['and not'] + block.output.lines


def do_sql(block, place):
    text = place.translated(block.text)
    if not ends_well(text):
        return ['the last statement has no end']
    match = SESSION.match(block.lines[0])
    session = place.session(match.group(1) if match else '1')
    if match and match.group(2):
        session.start(text, not may_fail(block))
        deadline = time.monotonic() + PATIENCE
        while not place.sleeps(session):
            if session.is_done(0.02) or time.monotonic() > deadline:
                return ['does not wait']
        place.waiting.append((session, block))
        return LATER

    def run():
        printed = session.run(text, not may_fail(block))
        if re.search(r'^\\c(onnect)?\b', text, re.M):
            session.learn_pid()
        return compare(block, place.translated_back(printed))
    return patiently(block, run)


def patiently(block, run):
    """Once, or until it is right if the first line says "after a moment"."""
    deadline = time.monotonic() + PATIENCE
    while True:
        problem = run()
        if problem is None or time.monotonic() > deadline or \
                not re.match(r'^(--|#) after a moment', block.lines[0]):
            return problem
        time.sleep(0.05)


def do_bash(block, place):
    text = place.translated(block.text)
    name = 'block.sh'
    command = ['bash', '-e', name]
    if text.startswith('#!'):
        match = re.match(r'^# ([\w.-]+)\b', block.lines[1])
        if not match:
            return ['the second line of a script names it: # NAME']
        name = match.group(1)
        command = ['./' + name]
    path = os.path.join(place.directory.name, name)
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)
    os.chmod(path, 0o755)
    return patiently(block, lambda: run_command(block, place, command))


def run_command(block, place, command):
    done = subprocess.run(command, cwd=place.directory.name, env=place.environment,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=psql.TIMEOUT,
                          check=False)
    if done.returncode != 0 and not may_fail(block):
        return ['exit status %d' % done.returncode] + done.stdout.split('\n')
    return compare(block, place.translated_back(done.stdout))


def do_crontab(block, place):
    """A percent sign ends the command in a crontab, unless it is escaped."""
    for line in block.lines:
        if not line.strip() or line.startswith('#') or re.match(r'^\w+\s*=', line):
            continue
        fields = line.split(None, 5)
        if len(fields) != 6 or re.search(r'(?<!\\)%', fields[5]):
            return ['not a line of a crontab: %s' % line]
        problem = run_command(block, place, ['sh', '-c', fields[5].replace('\\%', '%')])
        if problem:
            return [line] + problem
    return None


def do_ini(block, place):
    """A line of postgresql.conf, as ALTER SYSTEM takes it."""
    for line in block.lines:
        line = re.sub(r'\s+#.*$', '', line).strip()
        if not line or line.startswith('#'):
            continue
        match = re.match(r"^([\w.]+)\s*=\s*('(?:[^']|'')*'|\S+)$", place.translated(line))
        if not match:
            return ['not a line of postgresql.conf: %s' % line]
        value = match.group(2)
        if not value.startswith("'"):
            value = "'%s'" % value
        if match.group(1) == 'shared_preload_libraries':
            value = ', '.join("'%s'" % part.strip() for part in value.strip("'").split(','))
        try:
            psql.query("LOAD 'distlock';\nALTER SYSTEM SET %s = %s;\nALTER SYSTEM RESET %s;"
                       % (match.group(1), value, match.group(1)))
        except RuntimeError as error:
            return [line] + str(error).split('\n')
    return None


def do_json(block, place):
    del place
    json.loads(block.text)


def do_syntax(block, place):
    del place
    done = subprocess.run(['bash', '-n'], input=block.text, text=True,
                          stderr=subprocess.PIPE, check=False)
    return done.stderr.split('\n') if done.returncode != 0 else None


def do_python(block, place):
    del place
    compile(block.text, block.place, 'exec')


def do_elsewhere(block, place):
    """Every line of it must be in the file that runs it."""
    del place
    if not os.path.exists(block.elsewhere):
        return ['there is no %s' % block.elsewhere]
    with open(block.elsewhere, encoding='utf-8') as file:
        there = {line.strip() for line in file}
    missing = [line for line in block.lines if line.strip() and line.strip() not in there]
    return ['not in %s:' % block.elsewhere] + missing if missing else None


def write_outputs(name, blocks):
    """What was printed, in the place of what the file shows, where that differs."""
    lines = markdown.read(name)
    for block in reversed(blocks):
        printed = getattr(block, 'printed', None)
        if printed is None or block.output is None or \
                output.same(block.output.lines, printed):
            continue
        start = block.output.line
        new = [block.output.indent + line if line else line
               for line in output.shown(printed, block.output.lines)]
        lines[start:start + len(block.output.lines)] = new
        print('# %s: wrote what was printed' % block.output.place)
    with open(name, 'w', encoding='utf-8') as file:
        file.write('\n'.join(lines))
    sys.stdout.flush()
