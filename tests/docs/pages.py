"""The pages of the project: their code blocks, commands and links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tree import ROOT, project_files

SHELL = ("bash", "sh", "console", "shell")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# (\S+/\S+\.\w+)\n")  # first line of a block that is a file


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int  # of its first line of code
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the block is the content of."""
        named = NAMED.match(self.text)
        return named[1] if named else None

    def commands(self) -> Iterator[list[str]]:
        """Its shell commands: continued lines joined, `a && b` split, comments left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        for line in lines:
            words = shlex.split(line, comments=True)
            while "&&" in words:
                cut = words.index("&&")
                yield words[:cut]
                words = words[cut + 1 :]
            if words:
                yield words


def pages() -> list[Path]:
    """Every page of the project."""
    return [path for path in project_files() if path.suffix == ".md"]


@cache
def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page; an indented block after a colon counts where it holds shell commands."""
    text = page.read_text("utf-8")
    return [Block(page, text.count("\n", 0, found.start()) + 2, found[1], found[2]) for found in FENCE.finditer(text)]


def commands(page: Path) -> list[list[str]]:
    """Every shell command of a page."""
    return [words for block in blocks(page) if block.language in SHELL for words in block.commands()]


def links(page: Path) -> list[str]:
    """Local files that a page links to, or shows."""
    text = FENCE.sub("", page.read_text("utf-8"))
    found = re.findall(r"\]\(([^)\s]+)[^)]*\)", text) + re.findall(r'(?:src|href|srcset)="([^"]+)"', text)
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def title(page: Path) -> str:
    """How a page is called in a test's name."""
    return str(page.relative_to(ROOT))
