"""Pay interest, branch by branch, under a lock: psycopg2 and threads."""
import sys
from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import monotonic

import psycopg2

PAY = """SELECT pay_interest(branch, rate, distlock.guard(%s, current_setting('lock.token')))
             FROM next_branch()"""


class LockLost(Exception):
    """The lock can be somebody else's by now; what the block was doing has been cancelled."""


def call(connection, sql, *values, token=""):
    with connection, connection.cursor() as cursor:  # a transaction
        # The driver puts values into the text of a statement, and the server logs that of one
        # that fails.  A setting keeps the token out of it.
        cursor.execute("SELECT set_config('lock.token', %s, true)", [token])
        cursor.execute(sql, values)
        return cursor.fetchone()


@contextmanager
def lease(work, key, ttl, wait):
    """Hold the lock while the block runs; TimeoutError: refused, LockLost: lost on the way."""
    def keep(heart=None):
        nonlocal deadline
        while not done.is_set():
            with suppress(psycopg2.Error):  # no connection: try again, while the lease lasts
                heart = heart if heart and not heart.closed else psycopg2.connect("")
                began = monotonic()
                held, = call(heart, "SELECT distlock.try_extend(%s, current_setting('lock.token'))",
                             key, token=token)
                deadline = began + ttl if held else began
                done.wait(ttl / 4)
            done.wait(ttl / 12)

    def watch():
        while not done.wait(0.1):
            if monotonic() >= deadline:
                work.cancel()  # again and again: there may be nothing to cancel just now

    try:
        token, = call(work, "SELECT distlock.acquire(%s, %s, %s)", key, f"{ttl} s", f"{wait} s")
    except psycopg2.errors.LockNotAvailable as error:
        raise TimeoutError("refused: somebody else is at it") from error
    deadline, done = monotonic() + ttl, Event()
    threads = [Thread(target=target, daemon=True) for target in (keep, watch)]
    for thread in threads:
        thread.start()
    try:
        yield token
    except psycopg2.Error as error:
        if error.pgcode == "LK001" or monotonic() >= deadline:
            raise LockLost("lost: the lock is not ours any more") from error
        raise
    finally:
        done.set()
        threads[1].join()  # no statement is cancelled from now on
        with suppress(psycopg2.Error):  # should this fail, the ttl ends the lease
            if monotonic() < deadline:
                call(work, "SELECT distlock.try_release(%s, current_setting('lock.token'))",
                     key, token=token)


try:
    work, times = psycopg2.connect(""), map(int, sys.argv[1:] or (30, 600))
    with lease(work, "interest", *times) as token:
        while paid := call(work, PAY, "interest", token=token):
            print(*paid, flush=True)
    print("done")
except (TimeoutError, LockLost) as error:
    sys.exit(str(error))
