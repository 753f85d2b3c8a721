"""Links and anchors between the files."""

import os
import re

from . import markdown


def check(report):
    """One test for each file."""
    anchors = {}
    for name in markdown.all_files():
        problems = []
        count = 0
        for line, target in markdown.links(name):
            count += 1
            problem = wrong(name, target, anchors)
            if problem:
                problems.append('line %d: %s' % (line, problem))
        report.result('%s: %d links' % (name, count), problems or None)


def wrong(name, target, anchors):
    if re.match(r'^(https?|mailto):', target):
        return None
    path, _, anchor = target.partition('#')
    path = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
    if not os.path.exists(path):
        return 'there is no %s' % path
    if anchor:
        if not path.endswith('.md'):
            return '%s has no anchors' % path
        if path not in anchors:
            anchors[path] = markdown.anchors(path)
        if anchor not in anchors[path]:
            return '%s has no #%s' % (path, anchor)
    return None
