"""Pay interest, branch by branch, under a lock: psycopg2; the lock is in lease_psycopg2.py."""
import sys
from functools import partial

import psycopg2

from lease_psycopg2 import TOKEN, LockLost, call, lease

PAY = f"SELECT pay_interest(branch, rate, distlock.guard(%s, {TOKEN})) FROM next_branch()"

connect = partial(psycopg2.connect, "")
try:
    work, times = connect(), map(int, sys.argv[1:] or (30, 600))
    with lease(connect, work, "interest", *times) as token:
        while paid := call(work, token, PAY, "interest"):
            print(*paid, flush=True)
    print("done")
except (TimeoutError, LockLost) as error:
    sys.exit(str(error))
