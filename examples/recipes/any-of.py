#!/usr/bin/python3
"""any-of.py KEY... -- COMMAND...: run a command under any free one of these locks.

When: machines, ports, licences or shards are to be used by one at a time, whichever
is free; or a command shall run at most so many times at once, with as many keys.

Promises: at most one command runs under a key, started by this.  Its environment has
DISTLOCK_KEY and DISTLOCK_TOKEN.  The lease is extended while it runs; when it is lost,
or the server out of reach, the command is terminated, and the exit status is 1.  When no
key is free it is 75, else that of the command.  The key of a machine that has died is
free after TTL seconds (30).  A command that outlives this program may then overlap with
the next one: let it guard what it changes in the database.

DATABASE_URL says where; poolers in transaction mode will do.  Needs psycopg 3.
"""
import os
import random
import secrets
import subprocess
import sys

import psycopg

TTL = float(os.environ.get("TTL", "30"))


def ask(sql, *arguments):
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        return connection.execute(sql, arguments).fetchone()[0]


def claim(keys):
    """The first that is free, beginning anywhere, so that not all begin with the same."""
    token = secrets.token_hex(16)
    for key in random.sample(keys, len(keys)):
        if ask("SELECT distlock.try_acquire_with_token(%s, %s, %s * interval '1 s', owner => %s)",
               key, token, TTL, os.uname().nodename):
            return key, token
    sys.exit(75)


def main():
    separator = sys.argv.index("--")
    key, token = claim(sys.argv[1:separator])
    command = subprocess.Popen(sys.argv[separator + 1:], env={
        **os.environ, "DISTLOCK_KEY": key, "DISTLOCK_TOKEN": token})
    try:
        while True:
            try:
                status = command.wait(TTL / 3)
                break
            except subprocess.TimeoutExpired:
                ask("SELECT distlock.extend(%s, %s)", key, token)
    except psycopg.Error as error:
        command.terminate()
        sys.exit(f"{key}: {error}")
    ask("SELECT distlock.try_release(%s, %s)", key, token)
    sys.exit(status if status >= 0 else 128 - status)


main()
