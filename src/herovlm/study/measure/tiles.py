"""Finding 1: what each local tile is worth, by the scores of HERO and in truth.

The true importance of a tile is the fall of the right answer's log-likelihood when its tokens, and nothing else, are
dropped: all its patches, and the newlines of rows that are then empty.  What stays is numbered 0, 1, ... as usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from herovlm.budget import Share
from herovlm.errors import InputsError
from herovlm.eval.answer import Reader, Row
from herovlm.eval.likelihood import answer_ids, judge_rows
from herovlm.eval.plan import Config
from herovlm.eval.samples import Sample
from herovlm.methods.hero import Hero
from herovlm.ops import score
from herovlm.ops.fit import closed_by
from herovlm.study.measure.look import wanted
from herovlm.types import Kept, Seen

if TYPE_CHECKING:
    from PIL import Image

HERO = Hero()
LOOK = Config(HERO, Share(0.5))  # what it keeps is not sent; it says what to record
DIGITS = 5


def measure(reader: Reader, image: Image.Image, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Measure all local tiles of a picture for every question: one record a question, none without local tiles.

    Raises:
        HeroError: the model or the picture cannot be used.
    """
    questions = [sample.question for sample in samples]
    sheet = reader.sheet(image, questions, [LOOK])
    if not sheet.rows:
        raise InputsError(next(iter({**sheet.refused, **sheet.failed}.values())))
    rows = []
    for row in sheet.rows:
        seen = row.choice.seen[row.question]
        everything = Kept(seen.valid, seen.grid.sent)
        for kept in [everything, *(without(seen, tile) for tile in range(seen.grid.lead, len(seen.valid)))]:
            all_kept = tuple(kept if i == row.question else own for i, own in enumerate(row.choice.kept))
            length = row.length - row.positions[0] + kept.positions
            rows.append(Row(row.config, row.question, replace(row.choice, kept=all_kept), length, 0.0))
    answers = [answer_ids(reader, sample.question, wanted(sample)) for sample in samples]
    judged = judge_rows(reader, rows, answers)
    found = []
    for row, sample in zip(sheet.rows, samples, strict=True):
        whole, *less = [one for one in judged if one.question == row.question]
        if less:
            seen = row.choice.seen[row.question]
            about = {"sample": sample.name, "kind": sample.kind, "question": sample.question, "answer": wanted(sample)}
            truth: dict[str, Any] = {"log": round(whole.log, DIGITS), "right": whole.right}
            truth |= {"log_without": [round(one.log, DIGITS) for one in less]}
            truth |= {"right_without": [one.right for one in less]}
            found.append({**about, "grid": list(seen.grid.tiles), **scores(seen), **truth})
    return found


def without(seen: Seen, tile: int) -> Kept:
    """Keep everything but one tile: (T, N) mask with that row False, newlines of rows that still hold a patch."""
    mask = seen.valid.clone()
    mask[tile] = False
    return Kept(mask, closed_by(seen.grid, mask, "touched"))


def scores(seen: Seen) -> dict[str, list[float]]:
    """Score the local tiles, K numbers each: both cosines, the share that is not padding, and HERO's weight of all."""
    grid, room = seen.grid, seen.valid.float().mean(1)
    if seen.cls is None or seen.relevance is None:
        raise InputsError("the scores of tiles need what Hero() needs: CLS states and relevance")
    found = {
        "saliency": grid.local(score.saliency(seen.cls, None if grid.overview else room)),
        "relevance": grid.local(seen.relevance).float(),
        "density": grid.local(room),
        "weight": grid.local(HERO.weigh(seen)["weight"]),
    }
    return {name: _listed(values) for name, values in found.items()}


def _listed(values: Tensor) -> list[float]:
    return [round(value, DIGITS) for value in values.tolist()]
