"""Everybody wants the same key, and nobody waits."""

from measure import scenario
from servers import sections
from ways import Statements


class Hot(Statements):
    """Its figures: the time for each grant and for each refusal."""

    def __init__(self, name, pg):
        super().__init__(pg, sections(name)['hot'], 8)
        self.name = name

    def figures(self, rate, granted):
        return {self.name + ' grant': 1e6 / max(1, granted),
                self.name + ' refusal': 1e6 / max(1, rate - granted)}


@scenario('hot-key', 'Hot key, 8 clients, try only, durable', [
    "refusals at least 1.4 times dbkit's",
    "grants at least 2.5 times dbkit's",
], seconds=(4, 45))
def hot_key(s):
    """Each client tries, and if it has the lock gives it back at once. Times are
    by how many grants, and how many refusals, all clients together got."""
    pg = s.servers.pg()
    pg.sql("SELECT distlock.force_release('hot'); UPDATE distributed_locks SET expire_at = NULL;")
    table = s.interleave('tries through the socket, 8 clients', 'us', {
        'distlock': Hot('distlock', pg),
        'dbkit': Hot('dbkit', pg),
    }, 0.5 if s.quick else 1.6)
    s.ratio('refusals a second, of dbkit', table, 'distlock refusal', 'dbkit refusal',
            at_least=1.4, throughput=True)
    s.ratio('grants a second, of dbkit', table, 'distlock grant', 'dbkit grant',
            at_least=2.5, throughput=True)
