"""Blocks, tables and links of a file."""

import glob
import os
import re

ELSEWHERE = re.compile(r'^<!-- run by (\S+) -->$')
FENCE = re.compile(r'^( *)(```+)\s*([A-Za-z]*)[^`]*$')


class Block:
    """What is between two fences."""

    def __init__(self, name, line, language, indent):
        self.file = name
        self.line = line            # of the opening fence, from 1
        self.language = language
        self.indent = indent
        self.lines = []
        self.output = None          # the block of text that follows directly
        self.is_output = False
        self.elsewhere = None       # the file that runs it

    @property
    def text(self):
        return '\n'.join(self.lines) + '\n'

    @property
    def place(self):
        return '%s:%d' % (self.file, self.line)


def all_files():
    """Every file of the manuals."""
    names = glob.glob('*.md') + glob.glob('docs/**/*.md', recursive=True) + \
        glob.glob('examples/**/*.md', recursive=True) + glob.glob('src/*.md') + \
        glob.glob('bench/**/*.md', recursive=True)
    return sorted(set(names), key=lambda name: (name.count(os.sep) > 0, name))


def files_with_blocks():
    """Those whose blocks are run."""
    return [name for name in all_files()
            if name == 'README.md' or name.startswith(('docs/', 'examples/'))]


def read(name):
    with open(name, encoding='utf-8') as file:
        return file.read().split('\n')


def blocks(name):
    """The blocks of a file; one of language "text" that follows another with
    nothing but empty lines between is its output."""
    found = []
    current = None
    before = None
    elsewhere = None
    for number, line in enumerate(read(name), 1):
        match = FENCE.match(line)
        if current is None:
            if match:
                current = Block(name, number, match.group(3), match.group(1))
                current.elsewhere = elsewhere
                elsewhere = None
            elif line.strip():
                before = None
                comment = ELSEWHERE.match(line.strip())
                elsewhere = comment.group(1) if comment else None
        elif match and not match.group(3):
            if current.language == 'text' and before is not None:
                before.output = current
                current.is_output = True
                before = None
            else:
                before = current
            found.append(current)
            current = None
        else:
            current.lines.append(line[len(current.indent):]
                                 if line.startswith(current.indent) else line.lstrip())
    if current is not None:
        raise ValueError('%s: the block does not end' % current.place)
    return found


def prose(name):
    """The lines outside of blocks, with their numbers."""
    inside = False
    for number, line in enumerate(read(name), 1):
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            yield number, line


def slug(heading, seen):
    """The anchor of a heading, as web sites for repositories make it."""
    text = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', heading)
    text = re.sub(r'[`*]', '', text).strip().lower()
    text = ''.join(c for c in text if c.isalnum() or c in ' -_').replace(' ', '-')
    count = seen.get(text, 0)
    seen[text] = count + 1
    return text if count == 0 else '%s-%d' % (text, count)


def anchors(name):
    seen = {}
    found = set()
    for _, line in prose(name):
        match = re.match(r'^#{1,6}\s+(.*?)\s*#*$', line)
        if match:
            found.add(slug(match.group(1), seen))
        found.update(re.findall(r'<a (?:id|name)="([^"]+)"', line))
    return found


def links(name):
    """(line, target) of each link."""
    for number, line in prose(name):
        line = re.sub(r'`[^`]*`', '``', line)
        for match in re.finditer(r'\]\(([^)\s]+)\)', line):
            yield number, match.group(1)
        match = re.match(r'^\[[^]]+\]:\s*(\S+)', line)
        if match:
            yield number, match.group(1)


def cells(line):
    """Of one row of a table; a backslash hides a bar."""
    parts = re.split(r'(?<!\\)\|', line.strip().strip('|'))
    return [part.replace('\\|', '|').strip() for part in parts]


def tables(name):
    """(headings on the way there, names of the columns, rows) of each table."""
    headings = {}
    table = None
    for _, line in list(prose(name)) + [(0, '')]:
        match = re.match(r'^(#{1,6})\s+(.*?)\s*$', line)
        if match:
            level = len(match.group(1))
            headings = {n: text for n, text in headings.items() if n < level}
            headings[level] = match.group(2)
        if line.startswith('|'):
            if table is None:
                table = ([headings[n] for n in sorted(headings)], cells(line), [])
            elif not re.match(r'^\|[-:| ]+\|$', line):
                table[2].append(cells(line))
        elif table is not None:
            yield table
            table = None


def unquoted(text):
    """The text of a cell without the marks of code."""
    return text.replace('`', '').strip()
