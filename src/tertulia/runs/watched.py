"""Which runs of this process are followed in others: only they need to hear what is stored.

A process that follows a run which it does not execute says so by a notice, and again each second.
Whoever executes the run remembers that for three. Most runs are followed where they are executed,
or nowhere, and cost no notices at all. A notice that is lost costs a second: that is how often
those who follow look for themselves.
"""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from uuid import UUID

_REMEMBERED_S = 3.0


@dataclass(slots=True)
class Watched:
    """Runs that somebody follows elsewhere."""

    _until: dict[UUID, float] = field(default_factory=dict[UUID, float])

    def note(self, run_ids: Iterable[UUID]) -> list[UUID]:
        """Remember that these are; return those of which it was not known.

        They may have missed something that was stored meanwhile.
        """
        now = time.monotonic()
        self._until = {run_id: until for run_id, until in self._until.items() if until > now}
        ids = list(run_ids)
        unknown = [run_id for run_id in ids if run_id not in self._until]
        self._until.update(dict.fromkeys(ids, now + _REMEMBERED_S))
        return unknown

    def among(self, run_ids: Collection[UUID]) -> list[UUID]:
        """Return which of these runs are."""
        if not self._until:
            return []
        now = time.monotonic()
        return [run_id for run_id in run_ids if self._until.get(run_id, 0.0) > now]
