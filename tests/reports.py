"""A report made by hand, for tests of tables and pages."""

from __future__ import annotations

import torch
from grids import make_seen
from PIL import Image

from herovlm.types import Kept, Seen
from herovlm.viz.records import Answer, Asked, Report


def a_kept(seen: Seen, step: int = 5) -> Kept:
    """Keep every `step`-th valid patch, with one score a tile and one a patch."""
    mask = seen.valid.clone()
    mask.view(-1)[torch.arange(mask.numel()) % step != 0] = False
    tiles, patches = mask.shape
    why = {"weight": torch.arange(tiles) / 8, "score": torch.arange(tiles * patches).view(tiles, patches).float()}
    return Kept(mask, seen.grid.sent.clone(), why=why)


def an_answer(seen: Seen, method: str, text: str, right: bool | None = None, pictures: int = 1) -> Answer:
    full = method == "full"
    kept = Kept(seen.valid, seen.grid.sent) if full else a_kept(seen)
    return Answer(
        method=method,
        keep=1.0 if full else 0.25,
        text=text,
        positions=kept.positions * pictures,
        of=seen.positions * pictures,
        prefill=0.1234 if full else 0.0456,
        vision=0.05,
        choosing=0.0 if full else 0.01,
        writing=0.1,
        cache=3_000_000 if full else 700_000,
        views=((seen, kept),) * pictures,
        right=right,
    )


def a_report(question: str = "how many?", text: str = "seven", pictures: int = 1) -> Report:
    seen = make_seen(2, 2, 4, (1, 0))
    asked = Asked(
        question,
        (an_answer(seen, "full", text, True, pictures), an_answer(seen, "hero", "eight", False, pictures)),
        kind="counting",
        truth="seven",
    )
    named = tuple((f"picture {i + 1}.png", Image.new("RGB", (40, 30), "red")) for i in range(pictures))
    return Report("A title", "a model", named, (asked, asked))
