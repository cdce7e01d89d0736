"""Answers as cards of HTML: what was said, what it cost, and the picture with what was kept of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from herovlm.templates import environment
from herovlm.viz import overlay, times, units
from herovlm.viz.geometry import Fit
from herovlm.viz.records import Answer, Asked

HEIGHT = 640  # pixels of an overlay
LONG = 40  # letters of an answer that is no longer set in large type


def cards(picture: Image.Image, asked: Asked, fit: Fit, note: str = "") -> str:
    """Lay the answers side by side, what costs less or more than with all tokens marked, and those who cannot answer.

    Without an answer of the full model there is nothing to compare with.
    """
    full = next((answer for answer in asked.answers if answer.method == "full"), None)
    rows = [_card(picture, answer, full, fit) for answer in asked.answers]
    how = {"meaning": times.MEANING, "measured": times.measured(asked.answers)}
    told = {"question": asked.question, "refused": asked.refused, "note": note, "full": full is not None}
    return _render("cards", cards=rows, **told, **how)


def message(text: str) -> str:
    """Write what went wrong where the answers would be."""
    return _render("message", text=text)


def methods(rows: Sequence[tuple[str, str, str]]) -> str:
    """List methods: name, what it does, and the number of its paper or "baseline"."""
    return _render("methods", rows=rows)


def head(reads: str | None = None) -> str:
    """Write what stands over the page; `reads` is what alone the model can read."""
    return _render("head", reads=reads)


def foot(model: str, study: bool) -> str:
    """Write what stands below the page."""
    return _render("foot", model=model, study=study)


def costs(answer: Answer, full: Answer | None) -> list[tuple[str, str, str, str]]:
    """List what an answer cost: name, value, "gain" or "loss", and how many times as much or as little as in full."""
    stages = " + ".join(f"{part:.0f}" for part in (1e3 * answer.vision, 1e3 * answer.choosing, 1e3 * answer.prefill))
    whole = full or answer
    return [
        ("tokens read", f"{units.positions(answer.positions, answer.layers)} of {answer.of:,}", "", ""),
        (times.FIRST, units.seconds(answer.first_token), *times.beside(whole.first_token, answer.first_token)),
        ("see + choose + read", f"{stages} ms", "", ""),
        (times.WHOLE, units.seconds(answer.seconds), *times.beside(whole.seconds, answer.seconds)),
        ("memory (KV cache)", units.size(answer.cache), *times.beside(whole.cache, answer.cache, "smaller", "larger")),
    ]


def _card(picture: Image.Image, answer: Answer, full: Answer | None, fit: Fit) -> dict[str, Any]:
    ((seen, kept),) = answer.views
    share = units.share(answer.positions, answer.of)
    grid, counts = seen.grid, kept.granted.tolist()
    panels, local = overlay.draw(picture, seen, kept, height=HEIGHT, fit=fit), grid.local(counts)
    told = ", ".join(str(count) for count in local)
    return {
        "method": answer.method,
        "whole": answer.positions == answer.of,
        "share": share,
        "text": answer.text,
        "long": len(answer.text) > LONG,
        "same": None if full is None or answer is full else answer.text == full.text,
        "untouched": answer is full,
        "tiles": _uri(overlay.counted(panels[0], grid.tiles, local)) if local else "",
        "thumbnail": _uri(panels[-1]) if grid.overview else "",
        "alt": f"The picture with {share} of it lit" + (f"; pieces kept of each tile: {told}" if told else ""),
        "kept": f"{counts[0]:,} of {seen.counts.room[0]:,}" if grid.overview else "",
        "costs": costs(answer, full),
    }


def _uri(image: Image.Image) -> str:
    store = io.BytesIO()
    image.save(store, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(store.getvalue()).decode()}"


def _render(name: str, **values: Any) -> str:
    return environment("app").get_template(f"{name}.html.j2").render(**values)
