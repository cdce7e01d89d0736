"""The table of a narrowed vision tower, for docs/guide.md, from its committed result file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def narrow(result: Mapping[str, Any]) -> list[str]:
    """Time to see over the plain tower, and exact match, by the share that goes on."""
    times, asked = result["ratios"], result["accuracy"]
    shares, method = list(next(iter(asked.values()))), next(iter(asked)).partition("@")[0]
    lines = [
        "| patches that go on | time to see | " + " | ".join(f"`{name}`" for name in asked) + " |",
        "|---|---|" + "---|" * len(asked),
    ]
    for share in shares:
        whole = float(share) == 1
        cells = ["all" if whole else f"{float(share):.0%}", f"{times[method if whole else share]:.2f}"]
        cells += [f"{of[share]['accuracy']:.1f} {of[share]['interval95']}" for of in asked.values()]
        lines.append("| " + " | ".join(cells) + " |")
    threads = f"{result['threads']} thread{'s' * (result['threads'] != 1)} of a {result['device'].upper()}"
    return [
        *lines,
        "",
        f"Time: tower, the signals of `{method}` and projector for one image of {result['tiles']} tiles, over the same "
        f"with nothing left out; median of {result['rounds']} interleaved rounds (CLIP ViT-L/14-336 shape, random "
        f"weights, {result['dtype']}, {threads}).  `vtc_cls`, which reads nothing behind the features, takes "
        f"{times['vtc_cls']:.2f} with all patches.  The other columns: exact match in percent on {result['scenes']} "
        f"development scenes of the demo model, 95 % intervals in brackets.",
    ]
