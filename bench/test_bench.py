"""Tests of what tools/bench makes of its figures: tools/check runs them."""

import csv
import io
import os
import shutil
import sys
import tempfile
import types
import unittest
from contextlib import redirect_stdout

import measure
import plots
import report
import scenarios                # noqa: F401  (declares them)
from measure import Goal, Scenario, interval, middle, number, rank, spread
from servers import PEERS, sections


class Quiet:
    """No progress is shown."""

    def show(self, text):
        pass


class Counting:
    """A way that returns one figure after the other, and says when it is asked."""

    def __init__(self, name, figures, log):
        self.name = name
        self.figures = list(figures)
        self.log = log
        self.closed = False

    def warm_up(self, seconds):
        self.log.append('warm ' + self.name)

    def run(self):
        self.log.append(self.name)
        return self.figures.pop(0)

    def close(self):
        self.closed = True


def make_scenario(rounds=3, turns=1):
    declared = measure.Declared('made-up', 'Made up', ['a goal'], lambda s: None, (1, 1))
    form = types.SimpleNamespace(quick=True, rounds=rounds, seconds=0.1, turns=turns)
    return Scenario(declared, form, None, Quiet())


class Arithmetic(unittest.TestCase):
    def test_rank(self):
        """Computed by hand from the binomial distribution."""
        self.assertEqual([rank(n) for n in (1, 3, 4, 5, 7, 9, 11, 13, 15)],
                         [1, 1, 1, 1, 2, 2, 3, 4, 5])

    def test_interval(self):
        self.assertEqual(interval([3, 1, 2]), (1, 3))
        self.assertEqual(interval([7, 1, 6, 2, 5, 3, 4]), (2, 6))

    def test_spread(self):
        self.assertAlmostEqual(spread([1.0, 1.0, 1.0]), 0)
        self.assertAlmostEqual(spread([90, 100, 110]), 0.2)
        self.assertAlmostEqual(spread([1, 90, 95, 100, 105, 110, 999]), 0.2)
        self.assertEqual(spread([0, 0, 0]), 0)

    def test_middle(self):
        self.assertEqual(middle([5]), 5)
        self.assertEqual(middle([1, 2, 6]), 3)
        self.assertEqual(middle([1000, 2, 4, 0]), 3)
        self.assertEqual(middle([9, 1, 2, 3, 4, 5, 100, -50]), 3.5)

    def test_number(self):
        self.assertEqual([number(n) for n in (0, 1.005, 0.0123, 3.14159, 31.4159, 1234.5, 99.96)],
                         ['0', '1.00', '0.0123', '3.14', '31.4', '1,234', '100.0'])


class Verdicts(unittest.TestCase):
    def goal(self, values, **limits):
        return Goal('s', 'what', values, is_ratio=True, **limits)

    def test_reached_and_missed(self):
        self.assertEqual(self.goal([1.0, 1.01, 1.02], at_most=1.05).verdict, 'reached')
        self.assertEqual(self.goal([1.1, 1.11, 1.12], at_most=1.05).verdict, 'missed')
        self.assertEqual(self.goal([1.1, 1.11, 1.12], at_least=1.05).verdict, 'reached')
        self.assertEqual(self.goal([1.0, 1.01, 1.02], at_least=1.05).verdict, 'missed')

    def test_undecided(self):
        """Above 15 % nothing is decided, even if all rounds agree."""
        self.assertEqual(self.goal([0.50, 0.55, 0.60], at_most=1).verdict, 'undecided')
        self.assertEqual(self.goal([0.94, 1.0, 1.08], at_most=2).verdict, 'reached')
        self.assertEqual(self.goal([0.92, 1.0, 1.08], at_most=2).verdict, 'undecided')
        self.assertEqual(self.goal([0.5, 0.6, 1.2], at_most=1).remark, '2 of 3 rounds within it')

    def test_without_limit(self):
        self.assertEqual(self.goal([1, 2, 3]).verdict, '')

    def test_values(self):
        """A value that is no ratio is judged by its median."""
        self.assertEqual(Goal('s', 'p99', [1, 2, 30], at_most=5).verdict, 'reached')

    def test_yes_or_no(self):
        scenario = make_scenario()
        scenario.check('holds', True)
        scenario.check('fails', False)
        self.assertEqual([g.verdict for g in scenario.goals], ['reached', 'missed'])
        self.assertEqual([g.figure for g in scenario.goals], ['yes', 'no'])


class Rounds(unittest.TestCase):
    def test_turns(self):
        """Every other turn in the opposite order, a figure for each round."""
        log = []
        ways = {'a': Counting('a', [1, 3, 5, 7], log), 'b': Counting('b', [2, 4, 6, 8], log)}
        table = make_scenario(rounds=2, turns=2).interleave('t', 'us', ways)
        self.assertEqual(log, ['warm a', 'warm b', 'a', 'b', 'b', 'a', 'a', 'b', 'b', 'a'])
        self.assertEqual(table.rows, {'a': [2, 6], 'b': [3, 7]})
        self.assertTrue(ways['a'].closed and ways['b'].closed)

    def test_several_figures(self):
        way = Counting('w', [{'p50': 1, 'p99': 10}, {'p50': 2, 'p99': 20}], [])
        table = make_scenario(rounds=2).interleave('t', 'us', {'w': way})
        self.assertEqual(table.rows, {'p50': [1, 2], 'p99': [10, 20]})

    def test_closed_after_an_error(self):
        ways = {'a': Counting('a', [1], []), 'b': Counting('b', [], [])}
        with self.assertRaises(IndexError):
            make_scenario().interleave('t', 'us', ways)
        self.assertTrue(ways['a'].closed and ways['b'].closed)

    def test_ratio(self):
        """Within each round; less an empty loop; or as throughput."""
        scenario = make_scenario()
        table = scenario.table('t', 'us')
        for way, values in {'own': [3, 5, 9], 'other': [2, 3, 5], 'empty': [1, 1, 1]}.items():
            for value in values:
                table.add(way, value)
        scenario.ratio('cost', table, 'own', 'other')
        scenario.ratio('less', table, 'own', 'other', less='empty')
        scenario.ratio('throughput', table, 'own', 'other', throughput=True)
        self.assertEqual([g.values for g in scenario.goals], [
            [3 / 2, 5 / 3, 9 / 5], [2, 2, 2], [2 / 3, 3 / 5, 5 / 9]])


class Report(unittest.TestCase):
    def setUp(self):
        self.work = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.work)
        os.mkdir(os.path.join(self.work, 'tmp'))
        self.scenario = make_scenario()
        table = self.scenario.table('a table', 'us')
        for way, values in {'distlock': [10, 11, 12], 'another': [20, 22, 24]}.items():
            for value in values:
                table.add(way, value)
        self.scenario.ratio('of another', table, 'distlock', 'another', at_most=0.6)
        self.scenario.value('a size', 42, 'kB', at_most=41)
        self.scenario.value('for the record', 7, 'kB')
        self.scenario.took = 1

    def read(self, name):
        with open(os.path.join(self.work, name), newline='') as file:
            return file.read()

    def test_screen(self):
        with redirect_stdout(io.StringIO()) as screen:
            report.show(self.scenario, 100)
            report.show_summary([self.scenario])
        text = screen.getvalue()
        self.assertRegex(text, r'a table +median +least +most +spread')
        self.assertRegex(text, r'distlock +11.0 +10.0 +12.0 +18 %  us')
        self.assertRegex(text, r'reached +0.50 times +at most 0.60 +of another')
        self.assertIn('1 goals reached, 1 missed, 0 undecided', text)
        self.assertRegex(text, r'missed +made-up: a size: 42.0 kB, at most 41')

    def test_csv(self):
        report.write_csv([self.scenario], self.work)
        rounds = list(csv.DictReader(io.StringIO(self.read('rounds.csv'))))
        self.assertEqual(len(rounds), 6)
        self.assertEqual(rounds[1], {'scenario': 'made-up', 'table': 'a table', 'way': 'distlock',
                                     'round': '2', 'value': '11', 'unit': 'us'})
        goals = list(csv.DictReader(io.StringIO(self.read('goals.csv'))))
        self.assertEqual([(g['goal'], g['median'], g['verdict']) for g in goals],
                         [('of another', '0.5', 'reached'), ('a size', '42', 'missed'),
                          ('for the record', '7', '')])

    def test_page(self):
        servers = types.SimpleNamespace(work=self.work, versions=lambda: {'PostgreSQL': 'a version'})
        form = types.SimpleNamespace(quick=True, rounds=3, load=0.1)
        report.write_page([self.scenario], self.work, form, servers, 0, False)
        page = self.read('page.md')
        for text in ('a version', '**1 goals reached, 1 missed, 0 undecided.**', '3 rounds',
                     '| distlock | 11.0 | 10.0 | 12.0 | 18 % |',
                     '| [made-up](#made-up) | a size | **missed** | at most 41.0 | 42.0 kB |',
                     '| for the record |'):
            self.assertIn(text, page)

    @unittest.skipUnless(shutil.which('gnuplot'), 'there is no gnuplot')
    def test_plot(self):
        path = os.path.join(self.work, 'plot.svg')
        self.assertTrue(plots.bars(self.scenario.tables[0], path))
        self.assertIn('distlock', self.read('plot.svg'))


class Declarations(unittest.TestCase):
    def test_names(self):
        names = [d.name for d in measure.DECLARED]
        self.assertEqual(len(names), len(set(names)))
        for name in ('slow-disk', 'durable', 'not-durable', 'refused', 'in-transaction',
                     'exclusively', 'hand-over', 'hot-key', 'old-snapshot', 'scale', 'batch',
                     'worker', 'mirror', 'memory'):
            self.assertIn(name, names)
        for declared in measure.DECLARED:
            self.assertTrue(declared.goals and declared.text, declared.name)

    def test_time(self):
        """The quick form in 3 minutes, with the time to set up; the full one in 40."""
        self.assertLess(sum(d.seconds[0] for d in measure.DECLARED), 160)
        self.assertLess(sum(d.seconds[1] for d in measure.DECLARED), 2400)

    def test_peers(self):
        for peer in PEERS:
            self.assertIn('setup', sections(peer))
            if peer != 'floor':
                self.assertTrue({'pair', 'loop'} <= set(sections(peer)), peer)


if __name__ == '__main__':
    sys.exit(unittest.main())
