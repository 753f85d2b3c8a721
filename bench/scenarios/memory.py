"""How much memory the worker, the server and a session need."""

import time

from measure import scenario
from processes import private
from servers import NOT_DURABLE, sections

from .worker import fill_for_worker, switch


def idle_session(pg):
    session = pg.session()
    try:
        return private(session.sql('SELECT pg_backend_pid()'))
    finally:
        session.close()


def worker_pid(pg):
    return pg.sql("SELECT pid FROM distlock.worker_status WHERE database = 'postgres'")


@scenario('memory', 'Memory', [
    'a worker at most 2 MiB private whatever the number of locks',
    'shared memory at most 64 KiB',
    "a backend's growth at most 100 KiB",
], seconds=(5, 40))
def memory(s):
    """Private is what /proc/PID/smaps says. The backend's growth is that of
    what is used in its memory contexts, from before its first call of distlock to
    after 10,000 pairs and as many tries; what PostgreSQL caches of the catalogs,
    and the loop in PL/pgSQL, are part of it. For comparison: the same with the
    pairs of dbkit, and the private memory of a session that has done nothing."""
    pg = s.servers.pg('worker')
    rows = 50000 if s.quick else 1000000
    session = pg.session(NOT_DURABLE)
    switch(pg, True)
    if int(session.sql('SELECT count(*) FROM distlock.lock')) < 1000:
        fill_for_worker(s, session, 1000)
        time.sleep(2)
        s.value('worker, private, 1,000 locks', private(worker_pid(pg)), 'kB', 2048)
    if int(session.sql('SELECT count(*) FROM distlock.lock')) < rows:
        fill_for_worker(s, session, rows)
    switch(pg, False)
    switch(pg, True)
    time.sleep(4)
    s.value('worker, private, %s locks' % '{:,}'.format(rows), private(worker_pid(pg)), 'kB', 2048)
    s.value('a session that has done nothing, private',
            idle_session(pg), 'kB')
    s.value('shared memory', int(pg.sql(
        "SELECT sum(allocated_size) FROM pg_shmem_allocations WHERE name ILIKE '%distlock%'")) / 1024,
        'KiB', 64)
    session.close()

    ours = growth(pg, """
        t := distlock.acquire('mine ' || i % 100, '1 min'); COMMIT;
        PERFORM distlock.try_acquire('mine ' || i % 100, '1 min');
        PERFORM distlock.release('mine ' || i % 100, t); COMMIT;""")
    s.value("a backend's memory contexts, growth", ours[0], 'KiB', 100)
    s.value("a backend's private memory, growth", ours[1], 'kB')
    others = growth(pg, sections('dbkit')['loop'])
    s.value("dbkit: a backend's memory contexts, growth", others[0], 'KiB')
    s.value("dbkit: a backend's private memory, growth", others[1], 'kB')


def growth(pg, body):
    """KiB of memory contexts, and of private memory, that 10,000 turns cost."""
    session = pg.session(NOT_DURABLE)
    contexts = 'SELECT sum(used_bytes) FROM pg_backend_memory_contexts'
    pid = session.sql('SELECT pg_backend_pid()')
    session.sql('DO $$ DECLARE t text; BEGIN FOR i IN 1 .. 2 LOOP PERFORM 1; COMMIT; END LOOP; END $$')
    session.sql(contexts)
    before = int(session.sql(contexts)), private(pid)
    session.sql('DO $$ DECLARE t text; BEGIN FOR i IN 1 .. 10000 LOOP %s END LOOP; END $$' % body)
    after = int(session.sql(contexts)), private(pid)
    session.close()
    return (after[0] - before[0]) / 1024, after[1] - before[1]
