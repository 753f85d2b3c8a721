"""Links and anchors between the files."""

import functools
import os
import re

from . import markdown


def check(report):
    """One test for each file."""
    for name in markdown.all_files():
        report.result('%s: %d links' % (name, len(list(markdown.links(name)))),
                      broken(name) or None)


def broken(name):
    """What is wrong with the links of a file."""
    problems = ((line, wrong(name, target)) for line, target in markdown.links(name))
    return ['line %d: %s' % (line, problem) for line, problem in problems if problem]


@functools.cache
def anchors(name):
    return markdown.anchors(name)


def wrong(name, target):
    if re.match(r'^(https?|mailto):', target):
        return None
    path, _, anchor = target.partition('#')
    path = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
    if not os.path.exists(path):
        return 'there is no %s' % path
    if anchor and not path.endswith('.md'):
        return '%s has no anchors' % path
    if anchor and anchor not in anchors(path):
        return '%s has no #%s' % (path, anchor)
    return None
