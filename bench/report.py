"""What comes out: tables on the screen, CSV, the page of results."""

import csv
import os
import platform
import re
import statistics
import subprocess
import sys
import time

import plots
from measure import UNDECIDED, number, rank, spread

COLOURS = {'reached': '\x1b[32m', 'missed': '\x1b[31m', 'undecided': '\x1b[33m', '': ''}


def coloured(verdict, width):
    text = '%-*s' % (width, verdict)
    if verdict and sys.stdout.isatty():
        return COLOURS[verdict] + text + '\x1b[0m'
    return text


def percent(value):
    return '%.0f %%' % (100 * value)


def describe_range(goal):
    if len(goal.values) == 1:
        return ''
    return '%s to %s, spread %s' % (number(min(goal.values)), number(max(goal.values)),
                                    percent(goal.spread))


# ------------------------------------------------------------ on the screen --

def show(scenario, width):
    print('\n%s: %s (%.0f s)' % (scenario.name, scenario.declared.title, scenario.took))
    for table in scenario.tables:
        if not table.rows:
            continue
        print('\n  %-44s %10s %10s %10s %7s' % (table.title[:44], 'median', 'least', 'most', 'spread'))
        for way, values in table.rows.items():
            print('    %-42s %10s %10s %10s %7s  %s' % (
                way[:42], number(statistics.median(values)), number(min(values)),
                number(max(values)), percent(spread(values)), table.unit))
    if scenario.goals:
        print()
    for goal in scenario.goals:
        print('  %s %14s  %-15s %s%s' % (
            coloured(goal.verdict, 9), goal.figure, goal.limit, goal.what,
            ' (%s)' % describe_range(goal) if len(goal.values) > 1 else ''))
    for note in scenario.notes:
        print('  note: ' + note)
    sys.stdout.flush()


def count_verdicts(scenarios):
    goals = [g for s in scenarios for g in s.goals if g.limit]
    return {v: sum(1 for g in goals if g.verdict == v) for v in ('reached', 'missed', 'undecided')}


def show_summary(scenarios):
    counts = count_verdicts(scenarios)
    print('\n%(reached)d goals reached, %(missed)d missed, %(undecided)d undecided' % counts)
    for scenario in scenarios:
        for goal in scenario.goals:
            if goal.verdict in ('missed', 'undecided'):
                print('  %s %s: %s: %s, %s%s' % (
                    coloured(goal.verdict, 9), scenario.name, goal.what, goal.figure, goal.limit,
                     '; ' + goal.remark if goal.remark else ''))
    sys.stdout.flush()


# ---------------------------------------------------------------------- CSV --

def write_csv(scenarios, out):
    with open(os.path.join(out, 'rounds.csv'), 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['scenario', 'table', 'way', 'round', 'value', 'unit'])
        for scenario in scenarios:
            for table in scenario.tables:
                for way, values in table.rows.items():
                    for n, value in enumerate(values):
                        writer.writerow([scenario.name, table.title, way, n + 1, '%.6g' % value,
                                         table.unit])
    with open(os.path.join(out, 'goals.csv'), 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['scenario', 'goal', 'at_most', 'at_least', 'median', 'least', 'most',
                         'spread', 'rounds', 'unit', 'verdict'])
        for scenario in scenarios:
            for goal in scenario.goals:
                writer.writerow([scenario.name, goal.what, goal.at_most, goal.at_least,
                                 '%.6g' % goal.median, '%.6g' % min(goal.values),
                                 '%.6g' % max(goal.values), '%.3f' % goal.spread,
                                 len(goal.values), goal.unit, goal.verdict])


# --------------------------------------------------------------------- page --

def first_match(path, pattern):
    try:
        with open(path) as file:
            found = re.search(pattern, file.read(), re.M)
        return found.group(1).strip() if found else ''
    except OSError:
        return ''


def machine(work):
    memory = int(first_match('/proc/meminfo', r'^MemTotal:\s*(\d+)') or 0) / 1048576
    file_system = subprocess.run(['stat', '-f', '-c', '%T', work], stdout=subprocess.PIPE,
                                 text=True, check=False).stdout.strip()
    compiler = subprocess.run(['gcc', '--version'], stdout=subprocess.PIPE, text=True,
                              check=False).stdout.split('\n')[0]
    return [
        ('Processor', '%s, %d in all' % (
            first_match('/proc/cpuinfo', r'^model name\s*:\s*(.*)') or platform.machine(),
            os.cpu_count() or 0)),
        ('Memory', '%.0f GiB' % memory),
        ('System', '%s, Linux %s' % (first_match('/etc/os-release', r'^PRETTY_NAME="?([^"\n]*)'),
                                     platform.release().split('-')[0])),
        ('File system', file_system),
        ('Compiler', compiler),
    ]


def flush_time(servers):
    """What a flush costs here, in microseconds."""
    path = os.path.join(servers.work, 'tmp', 'flush')
    times = []
    with open(path, 'wb', 0) as file:
        file.write(b'\0' * 8192 * 200)
        os.fdatasync(file.fileno())
        for n in range(100):
            os.pwrite(file.fileno(), b'x' * 8192, 8192 * n)
            began = time.monotonic()
            os.fdatasync(file.fileno())
            times.append(time.monotonic() - began)
    os.unlink(path)
    return 1e6 * statistics.median(times)


COMPARED = '''\
What keeps a lock beyond the transaction or the connection, with a time after which it ends:

- **distlock**: [`bench/peers/distlock.sql`](bench/peers/distlock.sql)
- **dbkit**: the statements of go-dbkit's `distrlock`: [`bench/peers/dbkit.sql`](bench/peers/dbkit.sql)
- **pglock**: those of cirello.io/pglock: [`bench/peers/pglock.sql`](bench/peers/pglock.sql)
- **shedlock**: those of ShedLock's JDBC providers: [`bench/peers/shedlock.sql`](bench/peers/shedlock.sql)
- **plpgsql**: what one writes oneself: [`bench/peers/plpgsql.sql`](bench/peers/plpgsql.sql); the same
  in C by way of **SPI**: [`bench/peers/spi_lock.c`](bench/peers/spi_lock.c)
- **Redis**: `SET NX PX` and a script that compares and deletes, with `appendonly no`, or `appendfsync
  everysec` or `always`: [`bench/clients/redis_pairs.c`](bench/clients/redis_pairs.c); with pub/sub to
  wake who waits: [`bench/clients/handover.c`](bench/clients/handover.c)
- **etcd**: a transaction that puts a key under a lease, and a delete:
  [`bench/clients/etcd_pairs.c`](bench/clients/etcd_pairs.c)

What does not, and is the limit of the others
([`bench/peers/floor.sql`](bench/peers/floor.sql)): `SELECT 1`, one and two updates of a row by its
primary key, advisory locks, `SELECT ... FOR UPDATE`. The libraries' statements are sent without the
libraries, which can only be to their advantage.
'''


def ordinal(n):
    return {1: 'first', 2: '2nd', 3: '3rd'}.get(n, '%dth' % n)


def row(cells):
    return '| ' + ' | '.join(str(c).replace('|', '\\|') for c in cells) + ' |\n'


def write_page(scenarios, out, form, servers, began, gnuplot):
    from servers import SETTINGS
    page = []
    add = page.append
    counts = count_verdicts(scenarios)
    add('# Benchmarks\n\n')
    add('distlock next to what one would use instead, on one machine, measured by `tools/bench%s` '
        'on %s in %.0f minutes, %d rounds. '
        % (' --quick' if form.quick else '', time.strftime('%Y-%m-%d', time.gmtime(began)),
           (time.time() - began) / 60, form.rounds))
    add('**%(reached)d goals reached, %(missed)d missed, %(undecided)d undecided.**\n\n' % counts)
    add('Times are in microseconds, of all clients together: 8 clients that do 10,000 pairs a '
        'second take 100 us a pair. In each round all take turns several times, every other time in '
        'the opposite order; a round\'s figure is the mean of the middle half of its turns. A ratio '
        'is taken within each round, and given is the median of the rounds. The *spread* is the '
        'width, as a part of the median, of the range in which the median of many more rounds would '
        'lie with a probability of 85 % or more (with fewer than 5 rounds, of the range of all): '
        'with {0:d} rounds from the {1} lowest to the {1} highest. A ratio whose spread exceeds '
        '{2:.0f} % is *undecided*. Do not compare times between runs, or with other machines.\n\n'
        .format(form.rounds, ordinal(rank(form.rounds)), 100 * UNDECIDED))

    add('## Machine and versions\n\n')
    add(row(['', '']) + row(['---', '---']))
    for name, value in machine(servers.work):
        add(row([name, value]))
    add(row(['A flush (fdatasync of 8 kB)', '%.0f us' % flush_time(servers)]))
    add(row(['Load at the start', '%.1f' % form.load]))
    for name, value in servers.versions().items():
        add(row([name, value]))
    add('\nPostgreSQL: %s; else as it comes. distlock as `make` builds it, not preloaded except '
        'where the worker is measured. Sockets are Unix sockets (etcd: 127.0.0.1). '
        'PostgreSQL is spoken to through libpq, with prepared statements, Redis through hiredis, etcd '
        'through gRPC, all from C, a thread and a connection that stays for each client: see '
        '`bench/clients`. One client alone shares a processor with the process that serves it, since '
        'to wake up a sleeping virtual processor can take longer than all that is to be measured. In '
        'loops within the server, time does not count in which somebody else has the '
        'processor.\n\n'
        % ', '.join('`%s`' % s for s in SETTINGS))

    add('## What is compared\n\n')
    add(COMPARED + '\n')
    add('## Goals\n\n')
    add(row(['scenario', 'goal', 'reached?', 'to reach', 'median', 'rounds', 'spread']))
    add(row(['---', '---', '---', '---', '---:', '---', '---:']))
    for scenario in scenarios:
        for goal in scenario.goals:
            if goal.limit:
                add(goal_row(goal, ['[%s](#%s)' % (scenario.name, scenario.name)]))
    add('\n')

    for scenario in scenarios:
        add('## %s\n\n' % scenario.name)
        add('%s. %s\n\n' % (scenario.declared.title, scenario.declared.text))
        for note in scenario.notes:
            add('Note: %s\n\n' % note)
        for number_, table in enumerate(scenario.tables):
            if not table.rows:
                continue
            add(row([table.title + ', ' + table.unit, 'median', 'least', 'most', 'spread']))
            add(row(['---', '---:', '---:', '---:', '---:']))
            for way, values in table.rows.items():
                add(row([way, number(statistics.median(values)), number(min(values)),
                         number(max(values)), percent(spread(values))]))
            add('\n')
            if gnuplot:
                file = '%s-%d.svg' % (scenario.name, number_ + 1)
                if plots.bars(table, os.path.join(out, file)):
                    add('![%s](PLOTS/%s)\n\n' % (table.title, file))
        others = [g for g in scenario.goals if not g.limit]
        if others:
            add(row(['also', '', '', 'median', 'rounds', 'spread']))
            add(row(['---', '---', '---', '---:', '---', '---:']))
            for goal in others:
                add(goal_row(goal, []))
            add('\n')
    with open(os.path.join(out, 'page.md'), 'w') as file:
        file.write(''.join(page))


def goal_row(goal, front):
    verdict = {'reached': 'reached', 'missed': '**missed**', 'undecided': '*undecided*', '': ''}
    remark = ' (%s)' % goal.remark if goal.remark else ''
    several = len(goal.values) > 1
    return row(front + [goal.what, verdict[goal.verdict] + remark,
                        goal.limit, goal.figure,
                        '%s to %s' % (number(min(goal.values)), number(max(goal.values)))
                        if several else '',
                        percent(goal.spread) if several else ''])
