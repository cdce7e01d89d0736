"""The table of systems, read from their pages: a title, a sentence, and a table of facts head each of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

FACTS = ("paper", "fidelity", "command")  # rows of the table at the head of a page
INDEX = "README.md"


def table(folder: Path, link: str = "") -> Iterator[str]:
    """One row a page."""
    yield from ["| system | what it does | paper | fidelity | command |", "|---|---|---|---|---|"]
    for page in sorted(folder.glob("*.md")):
        if page.name != INDEX:
            about = head(page)
            facts = " | ".join(about[name] for name in FACTS)
            yield f"| [`{about['title']}`]({link}{page.name}) | {about['what']} | {facts} |"


def head(page: Path) -> dict[str, str]:
    """What a page says of its system: title, first sentence, and the facts."""
    text = page.read_text("utf-8")
    title, _, rest = text.partition("\n")
    paragraphs = [p for p in rest.split("\n\n") if p.strip() and not p.strip().startswith("<!--")]
    what = re.split(r"(?<=\.)\s", " ".join(paragraphs[0].split()))[0]
    found = {
        "title": title.removeprefix("# ").strip("` "),
        "what": re.sub(r" \((arXiv )?\d{4}\.\d{5}[^)]*\)", "", what),
    }
    for name in FACTS:
        row = re.search(rf"^\| {name} \| (.+) \|$", text, re.MULTILINE)
        if row is None:
            raise SystemExit(f"{page.name} needs a row '| {name} | ... |' at its head")
        found[name] = row[1]
    return found
