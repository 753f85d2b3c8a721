"""A command under a lock, in one call."""

from measure import scenario
from ways import Bursts, Statements


@scenario('exclusively', 'do_exclusively of a trivial command', [
    'at most 1.3 times pg_advisory_xact_lock and EXECUTE in PL/pgSQL',
], seconds=(5, 60))
def exclusively(s):
    """The command is SELECT 1, one client. The function in PL/pgSQL does the
    least that can be done: no key but a number, no time to live, no queue. The one
    without a lock is there for comparison."""
    pg = s.servers.pg()
    calls = {
        'distlock': "distlock.do_exclusively('nightly-interest', '1 min', 'SELECT 1')",
        'PL/pgSQL': "peer.exclusively(1, 'SELECT 1')",
        'PL/pgSQL without a lock': "peer.plain('SELECT 1')",
    }
    table = s.interleave('calls through the socket, 1 client', 'us a call', {
        name: Statements(pg, 'SELECT %s;' % call) for name, call in calls.items()})
    s.ratio('through the socket', table, 'distlock', 'PL/pgSQL', 1.3)
    table = s.interleave('calls in a loop within the server', 'us a call', {'all': Bursts(pg, {
        name: ('PERFORM %s; COMMIT;' % call, '') for name, call in calls.items()}, 200)})
    s.ratio('loop within the server', table, 'distlock', 'PL/pgSQL', 1.3)
