"""Answers as cards of HTML: what was said, what it cost, and the picture with what was kept of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from herovlm.viz import overlay, units
from herovlm.viz.geometry import Fit
from herovlm.viz.records import Answer, Asked

HEIGHT = 640  # pixels of an overlay


def cards(picture: Image.Image, asked: Asked, fit: Fit) -> str:
    """Lay the answers side by side, what costs less than with all positions marked."""
    first = asked.answers[0]
    rows = [_card(picture, answer, first, fit) for answer in asked.answers]
    return _render("cards", question=asked.question, cards=rows, refused=asked.refused)


def message(text: str) -> str:
    """Write what went wrong where the answers would be."""
    return _render("message", text=text)


def methods(rows: Sequence[tuple[str, str, str]]) -> str:
    """List methods: name, what it does, and the number of its paper or "baseline"."""
    return _render("methods", rows=rows)


def head(model: str, study: bool) -> str:
    """Write what stands over the page."""
    return _render("head", model=model, study=study)


def costs(answer: Answer, first: Answer) -> list[tuple[str, str, str]]:
    """List what an answer cost: name, value, and how many times less than the first."""
    prefill = first.prefill / answer.prefill if answer is not first and answer.prefill else 1.0
    cache = first.cache / answer.cache if answer is not first and answer.cache else 1.0
    return [
        ("visual positions", units.positions(answer.positions, answer.layers), ""),
        ("vision tower", units.seconds(answer.vision), ""),
        ("choosing", units.seconds(answer.choosing), ""),
        ("prefill", units.seconds(answer.prefill), _times(prefill, "faster")),
        ("KV cache", units.size(answer.cache), _times(cache, "smaller")),
    ]


def _card(picture: Image.Image, answer: Answer, first: Answer, fit: Fit) -> dict[str, Any]:
    ((seen, kept),) = answer.views
    share = units.share(answer.positions, answer.of)
    counts = ", ".join(str(count) for count in kept.granted[1:].tolist())
    tiles = f", tiles {counts}" if counts else ""
    return {
        "method": answer.method,
        "whole": answer.positions == answer.of,
        "share": share,
        "of": answer.of,
        "text": answer.text,
        "same": None if answer is first else answer.text == first.text,
        "image": _uri(overlay.draw(picture, seen, kept, height=HEIGHT, fit=fit)),
        "alt": f"The picture, {share} of it lit: patches kept of the thumbnail {int(kept.granted[0])}{tiles}.",
        "costs": costs(answer, first),
    }


def _times(factor: float, word: str) -> str:
    return f"{factor:.1f} x {word}" if factor >= 1.05 else ""


def _uri(image: Image.Image) -> str:
    store = io.BytesIO()
    image.save(store, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(store.getvalue()).decode()}"


def _render(name: str, **values: Any) -> str:
    env = Environment(
        loader=PackageLoader("herovlm.app"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return env.get_template(f"{name}.html.j2").render(**values)
