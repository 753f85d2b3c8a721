"""docs/troubleshooting.md has every message that the sources raise, and no other."""

import os
import re

from . import catalog, markdown

PAGE = 'docs/troubleshooting.md'
HEADING = 'Messages'
MESSAGE = re.compile(r'\berrmsg(?:_internal)?\(\s*((?:"(?:[^"\\]|\\.)*"\s*)+)', re.S)
NOT_GRANTED = re.compile(r'\bmessage = gettext_noop\("((?:[^"\\]|\\.)*)"')


def check(report):
    there = raised()
    if not os.path.exists(PAGE):
        report.result(PAGE, ['it is not there'])
        return
    described = {markdown.unquoted(row[0])
                 for headings, _, body in markdown.tables(PAGE)
                 if HEADING in headings for row in body}
    report.result('%s: %d messages' % (PAGE, len(there)),
                  catalog.difference(described, there))


def raised():
    """Each with an ellipsis for what differs."""
    found = set()
    for _, text in catalog.sources():
        for match in MESSAGE.finditer(text):
            found.add(plain(''.join(re.findall(r'"((?:[^"\\]|\\.)*)"', match.group(1)))))
        for match in NOT_GRANTED.finditer(text):
            found.add(plain(match.group(1)))
    return found


def plain(message):
    message = message.replace('\\"', '"')
    return re.sub(r'%[a-z]+', '…', message)
