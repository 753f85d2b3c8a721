"""A lock that is kept while a block runs: psycopg2, and what is built on it; with threads."""
from contextlib import closing, contextmanager, suppress
from threading import Event, Thread
from time import monotonic

TOKEN = "current_setting('lock.token')"


class LockLost(Exception):
    """The lock can be somebody else's by now; what the block was doing has been cancelled."""


def call(connection, token, sql, *values):
    """Run a statement; the server logs values of one that fails, so the token is a setting."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock.token', %s, true)", [token])
        cursor.execute(sql, values)
        return cursor.fetchone()


@contextmanager
def lease(connect, work, key, ttl, wait):
    """Hold the lock while the block runs; TimeoutError: refused, LockLost: lost on the way."""
    def keep():
        nonlocal deadline
        while not done.is_set():
            with suppress(Exception), closing(connect()) as heart:  # again, while the lease lasts
                while not done.is_set():
                    began = monotonic()
                    held, = call(heart, token, f"SELECT distlock.try_extend(%s, {TOKEN})", key)
                    deadline = began + ttl if held else began
                    done.wait(ttl / 3)
            done.wait(ttl / 12)

    def watch():
        while not done.wait(0.1):
            if monotonic() >= deadline:
                with suppress(Exception):  # again and again: there may be nothing to cancel yet
                    work.cancel()

    token, = call(work, "", "SELECT distlock.try_acquire(%s, %s, %s)", key, f"{ttl} s", f"{wait} s")
    if not token:
        raise TimeoutError("refused: somebody else is at it")
    deadline, done = monotonic() + ttl, Event()
    threads = [Thread(target=target, daemon=True) for target in (keep, watch)]
    for thread in threads:
        thread.start()
    try:
        yield token
    except Exception as error:
        cause = getattr(error, "orig", error)  # SQLAlchemy wraps the driver's
        if getattr(cause, "pgcode", "") == "LK001" or monotonic() >= deadline:
            raise LockLost("lost: the lock is not ours any more") from error
        raise
    finally:
        done.set()
        threads[1].join()  # no statement is cancelled from now on
        with suppress(Exception):  # should this fail, the ttl ends the lease
            if monotonic() < deadline:
                call(work, token, f"SELECT distlock.try_release(%s, {TOKEN})", key)
