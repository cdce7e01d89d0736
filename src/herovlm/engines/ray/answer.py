"""The rows of a shard, answered by one engine: in batches of pictures of any size, and one bad row spoils no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from herovlm.engines.engine import Asked, Engine
from herovlm.engines.ray.manifest import Row
from herovlm.engines.ray.tries import MOST, Tries
from herovlm.errors import PictureError, SetupError, reason
from herovlm.pictures import open_picture

DEADLY = "{} processes died while they answered this row: it is too large for the memory, or breaks what decodes it"


@dataclass(frozen=True)
class Answering:
    """An engine that answers rows."""

    engine: Engine
    batch: int = 8  # rows at once

    def answer(self, rows: Sequence[Row], tries: Tries) -> list[dict[str, Any]]:
        """Answer rows; one that cannot be answered says why in `error`.

        Args:
            rows: of one shard.
            tries: knows of which rows a process died before; such rows come first, each alone, and not for ever.

        Raises:
            SetupError: something is missing on this machine, whatever the row.
            OSError: what is tried cannot be noted.
        """
        deaths = {row: tries.died.get(row.id, 0) for row in rows}
        found = {row.id: _record(row, error=DEADLY.format(n)) for row, n in deaths.items() if n >= MOST}
        alone = sorted((row for row, n in deaths.items() if 0 < n < MOST), key=deaths.__getitem__, reverse=True)
        fresh = [row for row, n in deaths.items() if not n]
        parts = [[row] for row in alone]
        parts += [fresh[start : start + self.batch] for start in range(0, len(fresh), self.batch)]
        for part in parts:
            tries.begin(row.id for row in part)
            found |= self._opened(part)
        tries.end()
        return [found[row.id] for row in rows]

    def _opened(self, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
        """Open the pictures of some rows, and answer those that have one."""
        asked: dict[Row, Asked] = {}
        found: dict[str, dict[str, Any]] = {}
        for row in rows:
            try:
                asked[row] = Asked(row.question, open_picture(row.image))
            except PictureError as error:
                found[row.id] = _record(row, error=reason(error))
        return found | self._together(asked)

    def _together(self, asked: Mapping[Row, Asked]) -> dict[str, dict[str, Any]]:
        """Answer rows as one batch; where that fails, each alone."""
        if not asked:
            return {}
        start = perf_counter()
        try:
            answers = self.engine([*asked.values()])
        except SetupError:
            raise
        except Exception as error:
            if len(asked) == 1:
                return {row.id: _record(row, error=reason(error)) for row in asked}
            return {key: one for row in asked for key, one in self._together({row: asked[row]}).items()}
        seconds = (perf_counter() - start) / len(asked)
        told = zip(asked, answers, strict=True)
        return {row.id: _record(row, answer=one.text, kept=one.kept, of=one.of, seconds=seconds) for row, one in told}


def _record(row: Row, **said: Any) -> dict[str, Any]:
    return {**asdict(row), "answer": None, "kept": None, "of": None, "seconds": None, "error": None, **said}
