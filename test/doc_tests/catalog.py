"""docs/reference.md against the catalog and the sources: all that is there is
described, as it is, and nothing else."""

import os
import re
import subprocess

from . import markdown, psql

REFERENCE = 'docs/reference.md'
DATABASE = 'docs_catalog'

MEMBERS = """
    SELECT objid FROM pg_depend
    WHERE classid = '%s'::regclass AND deptype = 'e' AND refclassid = 'pg_extension'::regclass
        AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'distlock')"""

FUNCTIONS = """
    SELECT CASE prokind WHEN 'p' THEN 'CALL ' ELSE '' END || proname || '(' ||
        pg_get_function_arguments(oid) || ')' ||
        CASE prokind WHEN 'p' THEN '' ELSE ' → ' || pg_get_function_result(oid) END
    FROM pg_proc WHERE oid IN (%s)""" % (MEMBERS % 'pg_proc')

VIEWS = """
    SELECT c.relname, a.attname,
        replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz')
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
    WHERE c.relkind = 'v' AND c.oid IN (%s)
    ORDER BY c.relname, a.attnum""" % (MEMBERS % 'pg_class')

OTHERS = """
    SELECT CASE relkind WHEN 'r' THEN 'table' WHEN 'S' THEN 'sequence' END ||
        ' distlock.' || relname
    FROM pg_class WHERE relkind IN ('r', 'S') AND oid IN (%s)
    UNION ALL
    SELECT 'type distlock.' || t.typname
    FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid
    WHERE c.relkind = 'c' AND t.oid IN (%s)""" % (MEMBERS % 'pg_class', MEMBERS % 'pg_type')

# distlock.max_databases can be set at the start only, which shows only when preloaded.
SETTINGS = """
    LOAD 'distlock';
    SELECT name, boot_val, CASE vartype
            WHEN 'integer' THEN min_val || ' to ' || max_val || coalesce(' ' || unit, '')
            WHEN 'enum' THEN array_to_string(enumvals, ', ') ELSE '' END,
        CASE name WHEN 'distlock.max_databases' THEN 'postmaster' ELSE context END
    FROM pg_settings WHERE name LIKE 'distlock.%'"""


def check(report):
    psql.query('DROP DATABASE IF EXISTS %s' % DATABASE)
    psql.query('CREATE DATABASE %s' % DATABASE)
    psql.query('CREATE EXTENSION distlock', database=DATABASE)
    try:
        for what, described, there in (
                ('functions', described_functions(), functions()),
                ('columns of views', described_columns(), columns()),
                ('settings', described_settings(), settings()),
                ('other objects', described_objects(), objects()),
                ('SQLSTATEs', described_states(), states()),
                ('events', described_events(), events()),
                ('wait events', described_wait_events(), wait_events())):
            report.result('%s: %d %s' % (REFERENCE, len(there), what),
                          difference(described, there))
    finally:
        psql.query('DROP DATABASE %s' % DATABASE)


def difference(described, there):
    problem = ['not described: %s' % item for item in sorted(there - described)] + \
        ['described, but not there: %s' % item for item in sorted(described - there)]
    if not there:
        problem.append('nothing is there')
    return problem or None


def rows(sql):
    return psql.query(sql, database=DATABASE)


def tables_under(*headings):
    """The tables whose headings end so."""
    return [table for table in markdown.tables(REFERENCE)
            if tuple(table[0][-len(headings):]) == headings]


def first_column(*headings):
    return {markdown.unquoted(row[0]) for table in tables_under(*headings)
            for row in table[2]}


def plain(signature):
    """With defaults as people write them."""
    signature = re.sub(r"::[a-z.]+( precision)?", '', signature)
    signature = re.sub(r" DEFAULT ('[^']*'|[^,)]*)",
                       lambda match: ' = ' + match.group(1), signature)
    if signature.startswith('CALL'):
        signature = re.sub(r'\bIN ', '', signature)
    for long, short in (("'00:00:00'", "'0'"), ("'00:00:30'", "'30 s'"),
                        ('timestamp with time zone', 'timestamptz')):
        signature = signature.replace(long, short)
    return signature


def functions():
    return {plain(row[0]) for row in rows(FUNCTIONS)}


def described_functions():
    return {line for block in markdown.blocks(REFERENCE)
            if block.language == 'text' and not block.is_output
            for line in block.lines}


def columns():
    return {'.'.join(row[:2]) + ' ' + row[2] for row in rows(VIEWS)}


def described_columns():
    return {'%s.%s %s' % (headings[-1], markdown.unquoted(row[0]), row[1])
            for headings, _, body in markdown.tables(REFERENCE)
            if len(headings) == 3 and headings[1] == 'Views' for row in body}


def settings():
    return {' | '.join(row) for row in rows(SETTINGS)}


def described_settings():
    """Of settings with texts only that they have one is compared: "empty: no mirror"."""
    result = set()
    for table in tables_under('Settings'):
        for row in table[2]:
            name, default, span, context = (markdown.unquoted(cell) for cell in row[:4])
            default = re.sub(r'^empty.*$', '', default)
            if not re.match(r'^(-?\d+ to \d+|json, token)', span):
                span = ''
            result.add(' | '.join((name, default, span, context)))
    return result


def objects():
    return {row[0] for row in rows(OTHERS)}


def described_objects():
    return first_column('Other objects')


def sources():
    """Without the fail points, which are in builds for tests only."""
    for name in sorted(os.listdir('src')):
        if name.endswith(('.c', '.h')) and not name.startswith('fail_point.'):
            with open(os.path.join('src', name), encoding='utf-8') as file:
                yield name, file.read()


def states():
    """What the sources raise; PostgreSQL's own names are in errcodes.txt."""
    codes = {'LOCK_NOT_HELD': 'LK001'}
    path = subprocess.run(['pg_config', '--sharedir'], check=True, capture_output=True,
                          text=True).stdout.strip()
    with open(os.path.join(path, 'errcodes.txt'), encoding='utf-8') as file:
        for line in file:
            match = re.match(r'^(\w{5})\s+[EWS]\s+ERRCODE_(\w+)', line)
            if match:
                codes[match.group(2)] = match.group(1)
    return {codes[name] for _, text in sources()
            for name in re.findall(r'errcode\(ERRCODE_(\w+)\)', text)}


def described_states():
    """The first table; the second has what PostgreSQL raises."""
    return {markdown.unquoted(row[0]).split()[0]
            for row in tables_under('Errors')[0][2]}


def events():
    text = dict(sources())['events.c']
    return set(re.findall(r'\[EVENT_\w+\] = "(\w+)"', text))


def described_events():
    return {markdown.unquoted(row[0]) for table in tables_under('Events')
            if table[1][0] == 'event' for row in table[2]}


def wait_events():
    text = dict(sources())['compat.h']
    return set(re.findall(r'compat_wait_event\(&event, "(\w+)"\)', text))


def described_wait_events():
    return {markdown.unquoted(row[0])
            for table in tables_under('Wait events, and what pg_locks shows')
            if table[1][0] == '`wait_event`' for row in table[2]}
