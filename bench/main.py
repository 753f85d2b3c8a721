"""Measure: the part of tools/bench that runs after everything is set up.

	main.py --work DIR --pgbin DIR [--quick] [--rounds N] [NAME...]
	main.py --list | --check ARGUMENT...

Files:

	measure.py		rounds, ratios, goals
	servers.py		PostgreSQL, Redis, etcd
	ways.py			how load is made
	processes.py	what the kernel knows about processes
	scenarios/		what is measured
	report.py		the table, the CSV, the page; plots.py the plots
	peers/			what the others do, in SQL
	clients/		programs in C
"""

import argparse
import os
import shutil
import sys
import time

import measure
import report
import scenarios                # noqa: F401  (declares them)
from servers import Servers


class Form:
    """The full or the quick form."""

    def __init__(self, args):
        self.quick = args.quick
        self.rounds = args.rounds or (3 if args.quick else 13)
        self.seconds = 0.15 if args.quick else 0.7      # for each way in each round
        self.turns = 4 if args.quick else 8             # in which that is divided


class Progress:
    """One line on a terminal, that goes away; lines in a log otherwise."""

    def __init__(self, scenarios_to_run, quick):
        self.quick = quick
        self.expected = {d.name: d.seconds[0 if quick else 1] for d in scenarios_to_run}
        self.total = sum(self.expected.values())
        self.done = 0.0
        self.current = None
        self.began = time.monotonic()
        self.tty = sys.stdout.isatty()
        self.width = int(os.environ.get('COLUMNS') or 80)

    def start(self, name):
        self.current = name
        self.began = time.monotonic()
        if not self.tty:
            print('%s ...' % name, flush=True)

    def show(self, text):
        if not self.tty:
            return
        expected = self.expected[self.current]
        part = min(time.monotonic() - self.began, 0.98 * expected)
        share = (self.done + part) / self.total
        filled = int(24 * share)
        line = '[%s%s] %3d %%  %s' % ('#' * filled, '.' * (24 - filled), 100 * share, text)
        print('\r%-*s' % (self.width - 1, line[:self.width - 1]), end='', flush=True)

    def end(self):
        self.done += self.expected[self.current]
        self.clear()

    def clear(self):
        if self.tty:
            print('\r%s\r' % (' ' * (self.width - 1)), end='', flush=True)


def parse():
    parser = argparse.ArgumentParser(prog='tools/bench')
    parser.add_argument('--work')
    parser.add_argument('--pgbin')
    parser.add_argument('--quick', action='store_true')
    parser.add_argument('--rounds', type=int)
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--check', action='store_true')
    parser.add_argument('names', nargs='*')
    args = parser.parse_args()
    known = [d.name for d in measure.DECLARED]
    for name in args.names:
        if name not in known:
            parser.error('no such scenario: "%s"; there are %s' % (name, ', '.join(known)))
    if args.rounds is not None and args.rounds < 1:
        parser.error('at least one round is needed')
    return args


def main():
    args = parse()
    if args.list:
        for declared in measure.DECLARED:
            print('%-16s%s' % (declared.name, declared.title))
            for goal in declared.goals:
                print('%-16s- %s' % ('', goal))
        return 0
    if args.check:
        return 0

    form = Form(args)
    wanted = [d for d in measure.DECLARED if not args.names or d.name in args.names]
    servers = Servers(args.work, args.pgbin)
    progress = Progress(wanted, form.quick)
    done = []
    failed = []
    began = time.time()
    form.load = os.getloadavg()[0]
    if form.load > 0.3 * (os.cpu_count() or 1):
        print('note: the machine is busy (load %.1f): much may come out undecided' % form.load,
              flush=True)
    try:
        for declared in wanted:
            progress.start(declared.name)
            scenario = measure.Scenario(declared, form, servers, progress)
            scenario_began = time.monotonic()
            try:
                declared.function(scenario)
            except Exception as error:          # the others can go on
                progress.clear()
                print('%s failed: %s' % (declared.name, error), flush=True)
                if os.environ.get('BENCH_TRACE'):
                    import traceback
                    traceback.print_exc()
                failed.append(declared.name)
                scenario.note('Not finished: %s' % str(error).split('\n')[0])
            scenario.took = time.monotonic() - scenario_began
            progress.end()
            report.show(scenario, progress.width if progress.tty else 100)
            done.append(scenario)
    finally:
        servers.stop()

    out = os.path.join(args.work, 'out')
    report.write_csv(done, out)
    report.write_page(done, out, form, servers, began, shutil.which('gnuplot'))
    report.show_summary(done)
    if failed:
        print('failed: %s' % ', '.join(failed))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
