"""The scenarios, in the order in which they are run and shown."""

from . import (uncontended, refused, in_transaction, exclusively, handover, hot_key,  # noqa: F401
               old_snapshot, scale, batch, worker, mirror, memory)
