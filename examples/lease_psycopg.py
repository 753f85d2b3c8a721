"""A lock that is kept while a block runs: psycopg 3 and asyncio (Python 3.11)."""
import asyncio
from contextlib import asynccontextmanager, suppress

from psycopg import AsyncConnection, Error


class LockLost(Exception):
    """The lock can be somebody else's by now; what the block was doing has been cancelled."""


async def call(connection, sql, *values):
    return await (await connection.execute(sql, values)).fetchone()


@asynccontextmanager
async def lease(work, key, ttl, wait):
    """Hold the lock while the block runs; TimeoutError: refused, LockLost: lost on the way."""
    async def keep():
        while True:
            with suppress(Error):  # no connection: another one, as long as the lease lasts
                heart = await AsyncConnection.connect(autocommit=True)
                try:
                    while True:
                        began = asyncio.get_running_loop().time()
                        held, = await call(heart, "SELECT distlock.try_extend(%s, %s)", key, token)
                        alive.reschedule(began + ttl if held else began)
                        await asyncio.sleep(ttl / 3)
                finally:
                    await heart.close()
            await asyncio.sleep(ttl / 12)

    token, = await call(work, "SELECT distlock.try_acquire(%s, ttl => %s, wait => %s)",
                        key, f"{ttl} s", f"{wait} s")
    if not token:
        raise TimeoutError("refused: somebody else is at it")
    try:
        async with asyncio.timeout(ttl) as alive:  # when it is over, the block is cancelled
            keeper = asyncio.create_task(keep())
            yield token
    except (TimeoutError, Error) as error:
        if not alive.expired() and getattr(error, "sqlstate", "") != "LK001":
            raise
        work.cancel()
        await work.close()
        raise LockLost("lost: the lock is not ours any more") from error
    finally:
        keeper.cancel()
        with suppress(Error):  # should this fail, the ttl ends the lease
            await call(work, "SELECT distlock.try_release(%s, %s)", key, token)
