#!/usr/bin/python3
"""wait.py COMMAND KEY...: run COMMAND KEY FENCE for each KEY, when its lock is free.
It listens at LISTEN_URL (no pooler in transaction mode), and tries at DATABASE_URL: after
an event, when the lease ends, and after POLL seconds, because events can be lost."""
import asyncio
import contextlib
import json
import os
import sys

import psycopg

TRY = """SELECT distlock.try_acquire_with_token(%s, %s, ttl => '10 min'),
                (SELECT coalesce(min(least(remaining_ms, 1000 * %s::int)), 1000)
                 FROM distlock.locks WHERE key = %s AND scope <> 'transaction')"""
NEWS = {key: asyncio.Event() for key in sys.argv[2:]}    # it is worth looking
LINE = {key: asyncio.Lock() for key in sys.argv[2:]}     # of our waiters, one looks


async def connected(variable, do, *arguments):    # again and again, if it breaks
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                    os.environ[variable], autocommit=True) as connection:
                return await do(connection, *arguments)
        except psycopg.OperationalError as error:
            print(error, file=sys.stderr)
            await asyncio.sleep(1)


async def listen(connection):
    await connection.execute("LISTEN distlock")
    for news in NEWS.values():      # who knows what was missed
        news.set()
    async for notify in connection.notifies():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            NEWS[json.loads(notify.payload)["key"]].set()


async def ask(connection, sql, *arguments):
    return await (await connection.execute(sql, arguments)).fetchone()


async def work(command, key, poll=os.environ.get("POLL", 60)):
    token = os.urandom(16).hex()    # ours, so that a try may be repeated
    async with LINE[key]:
        while not (row := await connected("DATABASE_URL", ask, TRY, key, token, poll, key))[0]:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(NEWS[key].wait(), row[1] / 1000)
            NEWS[key].clear()       # before looking: what comes now counts
    await (await asyncio.create_subprocess_exec(command, key, str(row[0]))).wait()
    await connected("DATABASE_URL", ask, "SELECT distlock.try_release(%s, %s)", key, token)


async def main():
    _listening = asyncio.create_task(connected("LISTEN_URL", listen))    # ends with us
    await asyncio.gather(*(work(sys.argv[1], key) for key in sys.argv[2:]))


asyncio.run(main())
