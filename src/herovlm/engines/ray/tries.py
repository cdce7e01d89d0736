"""What a process died of: noted before it is tried, so that the process after it knows, and does not try for ever.

Ray starts an actor that died anew and hands it the same shard.  A picture that kills its decoder, or a question that is
too large for the memory, would kill that one too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

MOST = 3  # deaths that anything may be part of: once among others, then alone


class Tries:
    """How many processes died while they tried something, in a file that outlives them."""

    def __init__(self, path: Path) -> None:
        """Read what is known; a file that is none says nothing."""
        self.path = path
        try:
            self.died: dict[str, int] = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            self.died = {}

    def begin(self, names: Iterable[str]) -> None:
        """Note what is tried now; what was tried before went well.

        Raises:
            OSError: it cannot be written.
        """
        now = {name: self.died.get(name, 0) + 1 for name in names}
        try:
            self.path.write_text(json.dumps({**self.died, **now}), "utf-8")
        except OSError:
            self.end()
            raise

    def end(self) -> None:
        """Forget all: everything that was tried went well, or is given up."""
        self.path.unlink(missing_ok=True)
