"""Pay interest, branch by branch, under a lock: psycopg 3; the lock is in lease_psycopg.py."""
import asyncio
import sys

from lease_psycopg import LockLost, call, lease
from psycopg import AsyncConnection

PAY = "SELECT pay_interest(branch, rate, distlock.guard('interest', %s)) FROM next_branch()"


async def main(ttl=30, wait=600):
    async with await AsyncConnection.connect(autocommit=True) as work:
        async with lease(work, "interest", ttl, wait) as token:
            while paid := await call(work, PAY, token):
                print(*paid, flush=True)
    print("done")


try:
    asyncio.run(main(*map(int, sys.argv[1:])))
except (TimeoutError, LockLost) as error:
    sys.exit(str(error))
