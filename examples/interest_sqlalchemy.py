"""Pay interest, branch by branch, under a lock: SQLAlchemy 1.4 or 2 with psycopg2."""
import sys
from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import monotonic

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

PAY = """SELECT pay_interest(branch, rate, distlock.guard(:key, current_setting('lock.token')))
             FROM next_branch()"""


class LockLost(Exception):
    """The lock can be somebody else's by now; what the block was doing has been cancelled."""


def call(connection, sql, token="", **values):
    with connection.begin():
        # The driver puts values into the text of a statement, and the server logs that of one
        # that fails.  A setting keeps the token out of it.
        connection.execute(text("SELECT set_config('lock.token', :token, true)"), {"token": token})
        return connection.execute(text(sql), values).scalar()


@contextmanager
def lease(engine, work, key, ttl, wait):
    """Hold the lock while the block runs; TimeoutError: refused, LockLost: lost on the way."""
    def keep():
        nonlocal deadline
        while not done.is_set():
            with suppress(DBAPIError), engine.connect() as heart:  # the pool replaces broken ones
                began = monotonic()
                held = call(heart, "SELECT distlock.try_extend(:key, current_setting('lock.token'))",
                            **lock)
                deadline = began + ttl if held else began
                done.wait(ttl / 4)
            done.wait(ttl / 12)

    def watch(connection):
        while not done.wait(0.1):
            if monotonic() >= deadline:
                connection.cancel()  # again and again: there may be nothing to cancel just now

    try:
        token = call(work, "SELECT distlock.acquire(:key, ttl => :ttl, wait => :wait)",
                     key=key, ttl=f"{ttl} s", wait=f"{wait} s")
    except DBAPIError as error:
        if error.orig.pgcode == "55P03":
            raise TimeoutError("refused: somebody else is at it") from error
        raise
    lock = {"key": key, "token": token}
    deadline, done = monotonic() + ttl, Event()
    watcher = Thread(target=watch, args=[work.connection.dbapi_connection], daemon=True)
    watcher.start()
    Thread(target=keep, daemon=True).start()
    try:
        yield lock
    except DBAPIError as error:
        if error.orig.pgcode == "LK001" or monotonic() >= deadline:
            raise LockLost("lost: the lock is not ours any more") from error
        raise
    finally:
        done.set()
        watcher.join()  # no statement is cancelled from now on
        with suppress(DBAPIError):  # should this fail, the ttl ends the lease
            if monotonic() < deadline:
                call(work, "SELECT distlock.try_release(:key, current_setting('lock.token'))",
                     **lock)


try:
    # hide_parameters: no token in messages of errors
    bank = create_engine("postgresql+psycopg2://", future=True, hide_parameters=True)
    times = map(int, sys.argv[1:] or (30, 600))
    with bank.connect() as work, lease(bank, work, "interest", *times) as lock:
        while paid := call(work, PAY, **lock):
            print(paid, flush=True)
    print("done")
except (TimeoutError, LockLost) as error:
    sys.exit(str(error))
