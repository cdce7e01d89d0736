"""The source files as syntax trees, for the tests of this folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from tree import SRC

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Source:
    """One module of the package."""

    name: str  # herovlm.ops.select
    text: str
    package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def part(self) -> str:
        """First name below herovlm: "ops" of herovlm.ops.select; "" for herovlm itself."""
        return f"{self.name}.".split(".")[1]

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    def imports(self) -> set[str]:
        """Everything imported anywhere, also inside functions and for type checking: full dotted names."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {f"{self._base(node)}.{alias.name}" for alias in node.names}
        return found

    def _base(self, node: ast.ImportFrom) -> str:
        """The module that names are imported from; relative imports resolved."""
        if not node.level:
            return str(node.module)
        parts = self.name.split(".")
        parents = parts[: len(parts) - node.level + self.package]
        return ".".join([*parents, *([node.module] if node.module else [])])

    def definitions(self) -> Iterator[tuple[str, Definition]]:
        """Functions and classes with their qualified names, at any depth; what is local to a function is "f.<>.g"."""
        yield from _definitions(self.tree, "")


@cache
def sources() -> tuple[Source, ...]:
    """Every module of the package, parsed once."""
    return tuple(_read(path) for path in sorted((SRC / "herovlm").rglob("*.py")))


def lines_under(*folders: Path) -> int:
    """Python lines of folders."""
    return sum(len(path.read_text("utf-8").splitlines()) for folder in folders for path in folder.rglob("*.py"))


def _read(path: Path) -> Source:
    parts = path.relative_to(SRC).with_suffix("").parts
    package = parts[-1] == "__init__"
    return Source(".".join(parts[:-1] if package else parts), path.read_text("utf-8"), package)


def _definitions(node: ast.AST, inside: str) -> Iterator[tuple[str, Definition]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            name = f"{inside}{child.name}"
            yield name, child
            yield from _definitions(child, f"{name}." if isinstance(child, ast.ClassDef) else f"{name}.<>.")
        else:
            yield from _definitions(child, inside)
