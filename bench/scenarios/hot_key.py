"""Everybody wants the same key, and nobody waits."""

from measure import scenario
from servers import sections
from ways import Pgbench


class Hot(Pgbench):
    """Its figures: the time for each grant and for each refusal.  A grant and its
    release are two updates of the table, which PostgreSQL counts."""

    def __init__(self, name, pg, table):
        super().__init__(pg, sections(name)['hot'], 8)
        self.name = name
        self.table = table

    def updates(self):
        return int(self.server.sql(
            "SELECT pg_stat_get_tuples_updated('%s'::regclass)" % self.table))

    def run(self):
        before = self.updates()
        each = super().run()
        self.calls = self.count * self.clients
        grants = max(0.5, (self.updates() - before) / 2)
        refusals = max(0.5, self.calls - grants)
        self.shown = {self.name + ' grant': each * self.calls / grants,
                      self.name + ' refusal': each * self.calls / refusals}
        return self.shown

    def warm_up(self, seconds):
        for n in range(2):
            figures = self.run()
            each = 1 / sum(1 / f for f in figures.values())
            self.count = max(20, int(seconds * 1e6 / each / self.clients * (0.2 if n == 0 else 1)))


@scenario('hot-key', 'Hot key, 8 clients, try only, durable', [
    "refusals at least 1.4 times dbkit's",
    "grants at least 2.5 times dbkit's",
], seconds=(4, 60))
def hot_key(s):
    """Each client tries, and if it has the lock gives it back at once. Times are
    by how many grants, and how many refusals, all clients together got."""
    pg = s.servers.pg()
    pg.sql("SELECT distlock.force_release('hot'); UPDATE distributed_locks SET expire_at = NULL;")
    table = s.interleave('tries through the socket, 8 clients', 'us', {
        'distlock': Hot('distlock', pg, 'distlock.lock'),
        'dbkit': Hot('dbkit', pg, 'distributed_locks'),
    }, 0.5 if s.quick else 1.6)
    s.ratio('refusals a second, of dbkit', table, 'distlock refusal', 'dbkit refusal',
            at_least=1.4, throughput=True)
    s.ratio('grants a second, of dbkit', table, 'distlock grant', 'dbkit grant',
            at_least=2.5, throughput=True)
