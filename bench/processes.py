"""What the kernel knows about processes."""

import os
import re


def private(pid):
    """kB that no other process shares.  Shared memory that nobody else has touched
    is not among them."""
    kb = 0
    with open('/proc/%s/smaps' % pid) as file:
        for line in file:
            if re.match(r'[0-9a-f]+-[0-9a-f]+ ', line):
                shared = re.search(r' /(dev/zero|dev/shm/|SYSV)', line)
            elif re.match(r'Private_(Clean|Dirty):', line) and not shared:
                kb += int(line.split()[1])
    return kb


def processor_time(pids):
    """Seconds of processor time that they have used."""
    ticks = 0
    for pid in pids:
        with open('/proc/%s/stat' % pid) as file:
            fields = file.read().rsplit(')', 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf('SC_CLK_TCK')
