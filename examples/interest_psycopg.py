"""Pay interest, branch by branch, under a lock: psycopg 3 and asyncio (Python 3.11)."""
import asyncio
import sys
from contextlib import asynccontextmanager, suppress

from psycopg import AsyncConnection, Error, errors

PAY = "SELECT pay_interest(branch, rate, distlock.guard('interest', %s)) FROM next_branch()"


class LockLost(Exception):
    """The lock can be somebody else's by now; what the block was doing has been cancelled."""


@asynccontextmanager
async def lease(work, key, ttl, wait):
    """Hold the lock while the block runs; TimeoutError: refused, LockLost: lost on the way."""
    async def keep():
        heart = None
        while True:
            with suppress(Error):  # no connection: try again, as long as the lease lasts
                if not heart or heart.closed:
                    heart = await AsyncConnection.connect(autocommit=True)
                began = asyncio.get_running_loop().time()
                cursor = await heart.execute("SELECT distlock.try_extend(%s, %s)", (key, token))
                held, = await cursor.fetchone()
                alive.reschedule(began + ttl if held else began)
                await asyncio.sleep(ttl / 4)
            await asyncio.sleep(ttl / 12)

    try:
        cursor = await work.execute("SELECT distlock.acquire(%s, ttl => %s, wait => %s)",
                                    (key, f"{ttl} s", f"{wait} s"))
        token, = await cursor.fetchone()
    except errors.LockNotAvailable as error:
        raise TimeoutError("refused: somebody else is at it") from error
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
            await work.execute("SELECT distlock.try_release(%s, %s)", (key, token))


async def main(ttl=30, wait=600):
    async with await AsyncConnection.connect(autocommit=True) as work:
        async with lease(work, "interest", ttl, wait) as token:
            while paid := await (await work.execute(PAY, [token])).fetchone():
                print(*paid, flush=True)
    print("done")


try:
    asyncio.run(main(*map(int, sys.argv[1:])))
except (TimeoutError, LockLost) as error:
    sys.exit(str(error))
