"""What is the same but for times, tokens and numbers that nobody can know."""

import re

TAG = re.compile(r'^(BEGIN|COMMIT|ROLLBACK|CALL|DO|SET|RESET|SHOW|LISTEN|NOTIFY|'
                 r'SAVEPOINT|RELEASE|GRANT|REVOKE|VACUUM|ANALYZE|DISCARD ALL|'
                 r'PREPARE( TRANSACTION)?|(COMMIT|ROLLBACK) PREPARED|DEALLOCATE( ALL)?|'
                 r'TRUNCATE TABLE|GRANT ROLE|REVOKE ROLE|CHECKPOINT|'
                 r'INSERT 0 \d+|(UPDATE|DELETE|SELECT|COPY|MERGE) \d+|'
                 r'(CREATE|ALTER|DROP) [A-Z][A-Z ]*|'
                 r'You are now connected to .*)$')

# Columns whose values are another day others.
VARIES = re.compile(r'^(fence|pid|key_id|.*_with_token|guard|current_fence|advance_fence|'
                    r'remaining_ms|.*_pid|fence_.*|.*_fence|lag_ms|.*_ms)$')

MASKS = [
    (re.compile(r'\b[0-9a-f]{32}\b'), 'TOKEN'),
    (re.compile(r'\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d(:\d\d)?)?'), 'TIME'),
    (re.compile(r'\b\d\d:\d\d:\d\d\.\d+'), 'INTERVAL'),
    (re.compile(r'\b([Pp]rocess) \d+'), r'\1 N'),
    (re.compile(r'with PID \d+'), 'with PID N'),
    (re.compile(r'pg_terminate_backend\(\d+\)'), 'pg_terminate_backend(N)'),
    (re.compile(r'another \d+ ms'), 'another N ms'),
    (re.compile(r'(\\?"fence\\?":)\s*\d+'), r'\1N'),
    (re.compile(r'advisory lock \[[\d,]+\]'), 'advisory lock [N]'),
]


def same(expected, printed):
    """Whether two outputs, lists of lines, say the same."""
    return canonical(expected, printed) == canonical(printed, expected)


def canonical(lines, other):
    """Command tags count if the other output has some too."""
    has_tags = any(TAG.match(line) for line in lines) and \
        any(TAG.match(line) for line in other)
    result = []
    columns = None
    for number, line in enumerate(lines):
        line = line.rstrip()
        if not line or (TAG.match(line) and not has_tags):
            columns = None if not line else columns
            continue
        if re.match(r'^-[-+]*$', line):
            continue
        following = lines[number + 1].strip() if number + 1 < len(lines) else ''
        if re.match(r'^-[-+]*$', following):
            columns = [cell.strip() for cell in line.split('|')]
            result.append(tuple(columns))
        elif re.match(r'^\(\d+ rows?\)$', line):
            columns = None
            result.append(line)
        elif columns is not None:
            values = [cell.strip() for cell in line.split('|')]
            if len(values) != len(columns):
                values = [line.strip()]
            result.append(tuple(mask(value, name)
                                for value, name in zip(values, columns)))
        else:
            result.append(mask(line.strip(), ''))
    return result


def mask(value, column):
    if VARIES.match(column) and re.match(r'^-?\d+(\.\d+)?(e[+-]?\d+)?$', value):
        return 'N'
    for pattern, name in MASKS:
        value = pattern.sub(name, value)
    return value


def shown(printed, expected):
    """What was printed, in the form in which a file shows it."""
    lines = [line.rstrip() for line in printed]
    if not any(TAG.match(line) for line in expected):
        lines = [line for line in lines if not TAG.match(line)]
    while lines and not lines[0]:
        lines.pop(0)
    while lines and not lines[-1]:
        lines.pop()
    return lines
