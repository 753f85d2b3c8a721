#!/usr/bin/python3
"""leader.py KEY SQL: of all who run this, one leads, and executes SQL again and again.

When: several instances run, and something is to be done by exactly one of them,
by another one when that one fails: schedulers, pollers, relays.

Promises: no two write at the same time, and none after another one has begun, even
one that was stopped for an hour and does not know it: every transaction begins
with extend, which raises LK001 if the lease was lost, and keeps others out until COMMIT.
When the leader is killed, another one leads after TTL seconds at most, with a higher
fence: %(fence)s in SQL, for whatever else is to recognise a late leader.

DATABASE_URL says where (poolers in transaction mode will do), TTL for how long a
leader may be out of sight (10), PAUSE between two executions (1), both in seconds.
Set idle_in_transaction_session_timeout for the role: while a leader that has
stopped within a transaction keeps it open, nobody takes over.  Needs psycopg 3.
"""
import os
import secrets
import signal
import sys
import threading

import psycopg

KEY, SQL = sys.argv[1:]
TTL = os.environ.get("TTL", "10") + " s"
PAUSE = float(os.environ.get("PAUSE", "1"))
stop = threading.Event()


def lead(connection, token):
    """A candidate for a while, and a leader if that goes well, until the lease is lost."""
    fence = connection.execute(
        "SELECT distlock.try_acquire_with_token(%s, %s, ttl => %s, wait => '5 s', owner => %s)",
        [KEY, token, TTL, f"process {os.getpid()}"]).fetchone()[0]
    while fence and not stop.is_set():
        with connection.transaction():
            connection.execute("SELECT distlock.extend(%s, %s, %s)", [KEY, token, TTL])
            connection.execute(SQL, {"fence": fence})
        stop.wait(PAUSE)


def main():
    token = secrets.token_hex(16)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.is_set():
        try:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True,
                                 prepare_threshold=None) as connection:
                while not stop.is_set():
                    lead(connection, token)
                # who ends in good order lets another one lead at once
                connection.execute("SELECT distlock.try_release(%s, %s)", [KEY, token])
        except psycopg.Error as error:
            if error.sqlstate != "LK001" and not isinstance(error, psycopg.OperationalError):
                raise
            print(error, file=sys.stderr)
            stop.wait(PAUSE)


main()
