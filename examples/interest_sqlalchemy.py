"""Pay interest, branch by branch, under a lock: SQLAlchemy 1.4 or 2; see lease_psycopg2.py."""
import sys

from sqlalchemy import create_engine, text

from lease_psycopg2 import TOKEN, LockLost, lease

PAY = f"SELECT pay_interest(branch, rate, distlock.guard('interest', {TOKEN})) FROM next_branch()"

# hide_parameters: no token in messages of errors
bank = create_engine("postgresql+psycopg2://", future=True, hide_parameters=True)


def connect():
    """Make a connection for the heart-beat, which closes it."""
    connection = bank.raw_connection()
    connection.detach()
    return connection.dbapi_connection


def pay(work, token):
    with work.begin():
        work.execute(text("SELECT set_config('lock.token', :token, true)"), {"token": token})
        return work.execute(text(PAY)).scalar()


try:
    times = map(int, sys.argv[1:] or (30, 600))
    with bank.connect() as work:
        with lease(connect, work.connection.dbapi_connection, "interest", *times) as token:
            while paid := pay(work, token):
                print(paid, flush=True)
    print("done")
except (TimeoutError, LockLost) as error:
    sys.exit(str(error))
