"""Many keys in one transaction: the work of the processor alone."""

from measure import scenario
from ways import Bursts

KEYS = 500                      # in a transaction; far from any limit

DECLARE = '''
    keys text[] := ARRAY(SELECT 'key ' || i FROM generate_series(1, %d) i);
    tokens text[] := keys;
    b boolean;''' % KEYS

OURS = {
    'acquire': ("tokens[i] := distlock.acquire(keys[i], '1 min');", 'COMMIT;'),
    'guard': ('t := distlock.guard(keys[i], tokens[i]);', ''),
    'is_held': ('b := distlock.is_held(keys[i]);', 'COMMIT;'),
    'extend': ("t := distlock.extend(keys[i], tokens[i], '1 min');", 'COMMIT;'),
    'release': ('t := distlock.release(keys[i], tokens[i]);', 'COMMIT;'),
}
PEERS = {
    'SPI': {
        'acquire': "tokens[i] := peer.spi_acquire(keys[i], '1 min');",
        'extend': "t := peer.spi_extend(keys[i], tokens[i], '1 min');",
        'release': 't := peer.spi_release(keys[i], tokens[i]);',
    },
    'PL/pgSQL': {
        'acquire': "tokens[i] := peer.acquire(keys[i], '1 min');",
        'extend': "t := peer.extend(keys[i], tokens[i]::uuid, '1 min');",
        'release': 't := peer.release(keys[i], tokens[i]::uuid);',
    },
}


@scenario('in-transaction', 'In one transaction, distinct keys', [
    'acquire, extend and release at most 9 times pg_try_advisory_xact_lock',
    'and at most 0.45 of the same by SPI and in PL/pgSQL',
    'guard and is_held at most 4 times pg_try_advisory_xact_lock',
], seconds=(8, 125))
def in_transaction(s):
    """500 keys a transaction, which have been used before; time within the
    transaction, from a loop in PL/pgSQL, less the empty loop. The SPI functions
    are written in C and use the PL/pgSQL ones' statements."""
    pg = s.servers.pg()
    ways = {
        'empty loop': ('t := keys[i];', ''),
        'pg_try_advisory_xact_lock': ('b := pg_try_advisory_xact_lock(i);', 'COMMIT;'),
    }
    for verb, way in OURS.items():
        ways['distlock ' + verb] = way
    for peer, verbs in PEERS.items():
        for verb, body in verbs.items():
            ways['%s %s' % (peer, verb)] = (body, 'COMMIT;')
    table = s.interleave('calls within a transaction', 'us a call',
                         {'all': Bursts(pg, ways, KEYS, declare=DECLARE)})
    for verb, limit in (('acquire', 9), ('extend', 9), ('release', 9), ('guard', 4), ('is_held', 4)):
        s.ratio('%s, of pg_try_advisory_xact_lock' % verb, table, 'distlock ' + verb,
                'pg_try_advisory_xact_lock', limit, less='empty loop')
    for verb in ('acquire', 'extend', 'release'):
        for peer in PEERS:
            s.ratio('%s, of %s' % (verb, peer), table, 'distlock ' + verb, '%s %s' % (peer, verb),
                    0.45, less='empty loop')
