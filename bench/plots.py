"""Plots, by gnuplot: a bar for each way, with a line from the least round to the most."""

import statistics
import subprocess

OWN = '#2a6fbb'
OTHERS = '#b8b8b8'


def bars(table, path):
    """False if there is nothing to see."""
    if len(table.rows) < 2:
        return False
    rows = list(table.rows.items())
    height = 70 + 24 * len(rows)
    longest = max(len(way) for way, _ in rows)
    data = ''.join('%d %g %g %g %d\n' % (
        len(rows) - n, statistics.median(values), min(values), max(values),
        way.startswith('distlock')) for n, (way, values) in enumerate(rows))
    tics = ', '.join('"%s" %d' % (escape(way), len(rows) - n) for n, (way, _) in enumerate(rows))
    script = '''
        set terminal svg size 720,%d font "sans-serif,12" background "white"
        set output "%s"
        set title "%s" noenhanced
        set xlabel "%s (median; line: least to most)" noenhanced
        set lmargin %d
        set ytics (%s) noenhanced
        set yrange [0.4:%d.6]
        set xrange [0:*]
        set grid xtics lc rgb "#dddddd"
        set border 3
        set tics nomirror
        unset key
        $data << EOD
%sEOD
        set style fill solid
        plot $data using (0):1:(0):2:($1-0.35):($1+0.35) with boxxyerror lc rgb "%s", \\
            $data using (0):($5 == 1 ? $1 : NaN):(0):2:($1-0.35):($1+0.35) with boxxyerror lc rgb "%s", \\
            $data using 2:1:3:4 with xerrorbars pt 0 lw 1.5 lc rgb "#222222"
    ''' % (height, path, escape(table.title), escape(table.unit), longest + 2, tics, len(rows), data,
           OTHERS, OWN)
    done = subprocess.run(['gnuplot'], input=script, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        print('gnuplot: ' + done.stdout.strip())
    return done.returncode == 0


def escape(text):
    return text.replace('"', "'")
