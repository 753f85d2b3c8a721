"""Rounds in which all take turns, and what follows from them.

A Way is one of the things compared: an object with warm_up(seconds) and
run(), which returns a figure.  interleave() lets them take turns.  The ratio of
two ways is taken within each round; a Goal says what it has to be.
"""

import math
import statistics

YES_OR_NO = 'yes or no'         # the unit of a Goal that is 1 or 0
UNDECIDED = 0.15                # a ratio with a larger spread decides nothing


def rank(n):
    """Between the rank-th lowest and the rank-th highest of n rounds lies the median
    that many more rounds would have, with a probability of at least 85 %; 1, that is
    between the lowest and the highest, if n is less than 5."""
    outside = 0.0               # that the median is below the k-th lowest
    k = 0
    while True:
        outside += math.comb(n, k) / 2 ** n
        if 1 - 2 * outside < 0.85:
            break
        k += 1
    return max(k, 1)


def interval(values):
    """The rounds between which that is."""
    ordered = sorted(values)
    k = rank(len(ordered))
    return ordered[k - 1], ordered[-k]


def spread(values):
    """How wide that is, as a part of the median."""
    low, high = interval(values)
    median = statistics.median(values)
    return abs((high - low) / median) if median else 0.0


def middle(values):
    """The mean of the middle half.  Of what else the machine does for a moment, some
    turns of a round feel too much."""
    ordered = sorted(values)
    cut = len(ordered) // 4
    return statistics.mean(ordered[cut:len(ordered) - cut])


class Table:
    """Figures of several ways in the same rounds."""

    def __init__(self, scenario, title, unit):
        self.scenario = scenario
        self.title = title
        self.unit = unit
        self.rows = {}          # name of the way: its figures, one a round

    def add(self, way, value):
        self.rows.setdefault(way, []).append(value)


class Goal:
    """What was to be reached, and whether it was."""

    def __init__(self, scenario, what, values, at_most=None, at_least=None,
                 unit='', is_ratio=False):
        self.scenario = scenario
        self.what = what
        self.values = values
        self.at_most = at_most
        self.at_least = at_least
        self.unit = unit
        self.is_ratio = is_ratio

    @property
    def median(self):
        return statistics.median(self.values)

    @property
    def spread(self):
        return spread(self.values)

    @property
    def limit(self):
        if self.unit == YES_OR_NO:
            return 'yes'
        if self.at_most is not None:
            return 'at most %s' % number(self.at_most)
        if self.at_least is not None:
            return 'at least %s' % number(self.at_least)
        return ''

    @property
    def verdict(self):
        if self.at_most is None and self.at_least is None:
            return ''
        if self.is_ratio and self.spread > UNDECIDED:
            return 'undecided'
        return 'reached' if self.holds(self.median) else 'missed'

    def holds(self, value):
        return ((self.at_most is None or value <= self.at_most) and
                (self.at_least is None or value >= self.at_least))

    @property
    def figure(self):
        """The median with its unit."""
        if self.unit == YES_OR_NO:
            return 'yes' if self.median else 'no'
        return (number(self.median) + ' ' + self.unit).strip()

    @property
    def remark(self):
        """Of what is undecided: what the single rounds say."""
        if self.verdict != 'undecided':
            return ''
        n = sum(map(self.holds, self.values))
        return '%d of %d rounds within it' % (n, len(self.values))


def number(value):
    """A figure as people read it: three digits, or all before the point."""
    if value == 0:
        return '0'
    if abs(value) >= 100:
        return '{:,.0f}'.format(value)
    text = '%.*f' % (max(0, 2 - (len('%d' % abs(value)) - 1)), value)
    if abs(value) < 0.1:
        text = '%.3g' % value
    return text


class Scenario:
    """What a scenario's function gets: it makes tables and goals."""

    def __init__(self, declared, form, servers, progress):
        self.name = declared.name
        self.declared = declared
        self.quick = form.quick
        self.rounds = form.rounds
        self.seconds = form.seconds
        self.turns = form.turns
        self.servers = servers
        self.progress = progress
        self.tables = []
        self.goals = []
        self.notes = []

    def table(self, title, unit):
        table = Table(self.name, title, unit)
        self.tables.append(table)
        return table

    def note(self, text):
        self.notes.append(text)

    def interleave(self, title, unit, ways, seconds=None, rounds=None, turns=None):
        """One warm-up, then in each round several turns for each way, every
        other time in the opposite order, so that drifting is nobody's advantage;
        a round's figure is the mean of the middle half of its turns.  A way may return a dict: then
        it has a row for each key."""
        table = self.table(title, unit)
        rounds = rounds or self.rounds
        turns = turns or self.turns
        try:
            for name, way in ways.items():
                self.progress.show('%s: warming up %s' % (self.name, name))
                way.warm_up((seconds or self.seconds) / turns)
            for n in range(rounds):
                for row, figures in self.one_round(ways, n, rounds, turns).items():
                    table.add(row, middle(figures))
        finally:
            for way in ways.values():
                if hasattr(way, 'close'):
                    way.close()
        return table

    def one_round(self, ways, n, rounds, turns):
        """The figures of all turns, for each row."""
        figures = {}
        for m in range(n * turns, (n + 1) * turns):
            turn = list(ways.items())
            if m % 2:
                turn.reverse()
            for name, way in turn:
                self.progress.show('%s: round %d of %d, %s' % (self.name, n + 1, rounds, name))
                value = way.run()
                if not isinstance(value, dict):
                    value = {name: value}
                for row, figure in value.items():
                    figures.setdefault(row, []).append(figure)
        return figures

    def ratio(self, what, table, way, other, at_most=None, at_least=None,
              throughput=False, less=None):
        """The cost of one way as a multiple of the other's; with throughput, how
        many times as much it does in the same time (figures are times).  less:
        the row of an empty loop, which is taken off both."""
        def figures(row):
            if less is None:
                return table.rows[row]
            return [v - e for v, e in zip(table.rows[row], table.rows[less])]
        own = figures(way)
        others = figures(other)
        values = [o / v if throughput else v / o for v, o in zip(own, others)]
        self.goals.append(Goal(self.name, what, values, at_most, at_least, 'times', True))

    def value(self, what, values, unit, at_most=None, at_least=None):
        if not isinstance(values, list):
            values = [values]
        self.goals.append(Goal(self.name, what, values, at_most, at_least, unit))

    def check(self, what, is_so):
        self.value(what, 1 if is_so else 0, YES_OR_NO, at_least=1)


class Declared:
    """A scenario as it is declared in bench/scenarios."""

    def __init__(self, name, title, goals, function, seconds):
        self.name = name
        self.title = title
        self.goals = goals      # in words, for --list and the page
        self.function = function
        self.seconds = seconds  # expected, quick and full
        self.text = ' '.join((function.__doc__ or '').split())


DECLARED = []


def scenario(name, title, goals, seconds):
    def declare(function):
        DECLARED.append(Declared(name, title, goals, function, seconds))
        return function
    return declare
