"""Sessions of psql, as a reader has them."""

import os
import pty
import select
import subprocess
import termios
import time

TIMEOUT = 60                    # seconds, after which a block is taken to hang


class Died(Exception):
    """psql has ended; output is what it printed before."""

    def __init__(self, output):
        super().__init__('psql has ended')
        self.output = output


class Session:
    """A psql that runs on from block to block.

    It writes to a terminal of its own, so that what it prints and what it
    complains of come in order; it reads from a pipe, so that it does not edit
    lines."""

    def __init__(self, environment, directory):
        self.terminal, theirs = pty.openpty()
        attributes = termios.tcgetattr(theirs)
        attributes[1] &= ~termios.OPOST
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        self.process = subprocess.Popen(
            ['psql', '-X'], stdin=subprocess.PIPE, stdout=theirs, stderr=theirs,
            env=environment, cwd=directory, text=True)
        os.close(theirs)
        self.marks = 0
        self.output = ''
        self.pid = None
        self.learn_pid()

    def learn_pid(self):
        """To be called again when it connects again."""
        self.pid = int(self.run('SELECT pg_backend_pid() AS docs_pid \\gset\n'
                                '\\echo :docs_pid\n\\unset docs_pid\n', stops=True))

    def run(self, text, stops):
        """Run it to its end, and return what was printed; stops: at an error."""
        self.start(text, stops)
        return self.finish()

    def start(self, text, stops):
        self.marks += 1
        self.mark = '==== end of block %d ====' % self.marks
        self.output = ''
        try:
            self.process.stdin.write('\\set ON_ERROR_STOP %s\n%s\\echo %s\n'
                                     % ('on' if stops else 'off', text, self.mark))
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Died('') from None

    def finish(self):
        deadline = time.monotonic() + TIMEOUT
        while not self.is_done(max(0, deadline - time.monotonic())):
            if time.monotonic() > deadline:
                self.process.kill()
                raise Died(self.output + 'took longer than %d s' % TIMEOUT)
        return self.output[:self.output.index(self.mark)]

    def is_done(self, seconds=0):
        """Whether it has come to its end, or does so soon; reads what is there."""
        if self.mark + '\n' in self.output:
            return True
        ready, _, _ = select.select([self.terminal], [], [], seconds)
        if ready:
            try:
                data = os.read(self.terminal, 65536)
            except OSError:         # it is closed on the other side
                data = b''
            if not data:
                raise Died(self.output)
            self.output += data.decode('utf-8', 'replace')
        return self.mark + '\n' in self.output

    def close(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.terminal)


def query(sql, environment=None, database=None):
    """Rows of a statement, as lists of texts."""
    command = ['psql', '-XAtq', '-F', '\x1f', '-R', '\x1e', '-v', 'ON_ERROR_STOP=1',
               '-d', database or (environment or os.environ).get('PGDATABASE', 'postgres')]
    done = subprocess.run(command, input=sql, env=environment, text=True,
                          capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    text = done.stdout.rstrip('\n')
    return [row.split('\x1f') for row in text.split('\x1e')] if text else []
