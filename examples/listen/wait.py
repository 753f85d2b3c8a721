#!/usr/bin/python3
"""wait.py COMMAND KEY...: run COMMAND KEY FENCE for each KEY, when its lock is free.

One connection listens for the whole process (LISTEN_URL; no pooler in transaction
mode).  Who is woken, by an event or by the end of the lease, tries again over
a connection of his own (DATABASE_URL; may be a pooler), in any case after POLL seconds.
"""
import asyncio
import contextlib
import json
import os
import secrets
import sys

import psycopg

TRY = "SELECT distlock.try_acquire_with_token(%s, %s, ttl => '10 min')"
REST = """SELECT coalesce(min(least(remaining_ms, 1000 * %s::int)), 1000)
          FROM distlock.locks WHERE key = %s"""
NEWS = {key: asyncio.Event() for key in sys.argv[2:]}    # it is worth looking
LINE = {key: asyncio.Lock() for key in sys.argv[2:]}     # of our waiters, one looks


async def persist(variable, do):    # over a new connection, as often as it breaks
    while True:
        with contextlib.suppress(psycopg.OperationalError):
            async with await psycopg.AsyncConnection.connect(
                    os.environ[variable], autocommit=True) as connection:
                return await do(connection)
        await asyncio.sleep(1)


async def listen(connection):
    await connection.execute("LISTEN distlock")
    for news in NEWS.values():      # who knows what was missed
        news.set()
    async for notify in connection.notifies():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            NEWS[json.loads(notify.payload)["key"]].set()


async def sql(statement, *arguments):
    async def execute(connection):
        return (await (await connection.execute(statement, arguments)).fetchone())[0]
    return await persist("DATABASE_URL", execute)


async def work(command, key):
    token = secrets.token_hex(16)   # ours, so that a try may be repeated
    async with LINE[key]:
        while (fence := await sql(TRY, key, token)) is None:
            rest = await sql(REST, os.environ.get("POLL", 60), key)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(NEWS[key].wait(), rest / 1000)
            NEWS[key].clear()       # before looking: what comes now counts
    await (await asyncio.create_subprocess_exec(command, key, str(fence))).wait()
    await sql("SELECT distlock.try_release(%s, %s)", key, token)


async def main():
    listening = asyncio.create_task(persist("LISTEN_URL", listen))
    await asyncio.gather(*(work(sys.argv[1], key) for key in sys.argv[2:]))
    listening.cancel()

asyncio.run(main())
