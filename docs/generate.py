"""Write what the code knows about itself into the documentation: one page a method, and the tables of README.md.

python docs/generate.py            # write
python docs/generate.py --check    # say what is out of date, exit 1
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import results
import systems
from PIL import Image, ImageChops

from herovlm import registry
from herovlm.cli import options
from herovlm.cli.methods import summary
from herovlm.cli.models import about as describe
from herovlm.demo import scenes
from herovlm.methods.fields import spell

ROOT = Path(__file__).parents[1]
CARD = "src/herovlm/demo/weights/README.md"
WITH_BLOCKS = (
    "README.md",
    CARD,
    *(
        f"docs/{name}.md"
        for name in ("ablation", "accuracy", "batch", "cost", "findings", "guide", "serve", "models/README")
    ),
)  # written by hand around blocks
SCENE, PICTURE = 2, "docs/board.png"  # a held-out scene: the picture that the commands of the pages ask about
MADE = "<!-- made by docs/generate.py from the code; do not edit -->"
Kind = type[Any]  # a method, before the LLM or inside it
BUDGET_INSIDE = {  # by whether a method inside the LLM is exact
    True: "its own fields say how many stay; alone, the `keep` of the call does, as the mean over the layers",
    False: "how many stay depends on the picture",
}
FIDELITY = {
    "golden parity": "equal to the authors' code index for index, on the committed cases of `tests/golden`",
    "from the paper": "written from the formulas of the paper; not compared with the code of its authors, case by case",
    "reconstruction": "the paper leaves something open; the page says what was filled in",
    "of this library": "a paper's method and rules of this library, measured in [docs/ablation.md](../ablation.md)",
    "baseline": "no paper: a yardstick that any method has to beat",
}


def main(arguments: Sequence[str]) -> int:
    """Write or check every generated file."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write(f"usage: python docs/generate.py [--check], not {' '.join(arguments)}\n")
        return 2
    check, stale, made = bool(arguments), [], pages()
    for path, text in made.items():
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(path)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, "utf-8")
    for path in {*(ROOT / "docs/methods").glob("*.md")} - {*made}:
        stale.append(path)
        if not check:
            path.unlink()
    if not same_picture(board := scenes.make(SCENE).image):
        stale.append(ROOT / PICTURE)
        if not check:
            board.save(ROOT / PICTURE, optimize=True)
    for path in sorted(stale):
        sys.stdout.write(f"{'out of date' if check else 'wrote'}: {path.relative_to(ROOT)}\n")
    return 1 if check and stale else 0


def pages() -> dict[Path, str]:
    """Every generated text: path -> content."""
    made = {ROOT / f"docs/methods/{method.name}.md": page(method) for method in (*before(), *inside())}
    made[ROOT / "docs/methods/README.md"] = "\n".join(index()) + "\n"
    blocks = results.blocks() | {"methods": lambda: list(tables("docs/methods/")), "models": models, "towers": towers}
    folder = ROOT / "docs/systems"
    written = [path.relative_to(ROOT).as_posix() for path in sorted(folder.glob("*.md"))]
    for name in (*WITH_BLOCKS, *written):
        blocks["systems"] = lambda name=name: list(systems.table(folder, "" if "/" in name else "docs/systems/"))  # type: ignore[misc]
        text = (ROOT / name).read_text("utf-8")
        for block, lines in blocks.items():
            if f"<!-- {block}:start -->" in text:
                text = fill(text, block, lines())
        made[ROOT / name] = text
    return made


def before() -> list[Kind]:
    """The methods before the LLM."""
    return [registry.method(name) for name in registry.METHODS]


def inside() -> list[Kind]:
    """The methods that go on inside the LLM."""
    return [registry.inside(name) for name in registry.INSIDE]


def fill(text: str, name: str, lines: Sequence[str]) -> str:
    """Replace what stands between <!-- name:start --> and <!-- name:end -->."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    if text.count(start) != 1 or text.count(end) != 1:
        raise SystemExit(f"the page needs {start} and {end}, once each")
    head, rest = text.split(start)
    return "\n".join([f"{head}{start}", *lines, f"{end}{rest.split(end)[1]}"])


def tables(folder: str = "") -> Iterator[str]:
    """All methods, one row each."""
    yield from table(before(), folder)
    yield from [
        "",
        'Inside the LLM, where pruning goes on between layers; alone, or after a plus: `"hero + fastv"`.',
        "",
    ]
    yield from table(inside(), folder)


def table(methods: Sequence[Kind], folder: str = "") -> Iterator[str]:
    """One row a method."""
    yield from ["| method | what it does | paper | fidelity |", "|---|---|---|---|"]
    for m in methods:
        yield f"| [`{m.name}`]({folder}{m.name}.md) | {summary(m)} | {paper(m)} | {m.fidelity} |"


def models() -> list[str]:
    """One row a file of model families, with its page where there is one."""
    rows = ["| family | `config.model_type` | what it sends | more |", "|---|---|---|---|"]
    files: dict[str, list[Kind]] = {}
    for kind in families():
        files.setdefault(kind.__module__, []).append(kind)
    for file, kinds in files.items():
        named, about = ", ".join(kind.name for kind in kinds), sentence(sys.modules[file]).split(": ")[-1]
        types = spelled([name for kind in kinds for name in families()[kind]])
        rows.append(f"| {named} | {types} | {about} | {paged(kinds[0], 'docs/models/')} |")
    return rows


def towers() -> list[str]:
    """One row a model family: what it sees through, and what for."""
    rows = ["| family | `config.model_type` | its tower offers | `hero` is written | page |", "|---|---|---|---|---|"]
    for kind, names in families().items():
        about = describe(names[0])
        hero = "`hero`" if "hero" in about["methods"] else f"`{about['written as']['hero']}`"
        offers = ", ".join(about["offers"])
        rows.append(f"| {kind.name} | {spelled(names)} | {offers} | {hero} | {paged(kind, '')} |")
    return rows


def families() -> dict[Kind, list[str]]:
    """Every family, and the model types that it has."""
    found: dict[Kind, list[str]] = {}
    for name in registry.FAMILIES:
        found.setdefault(type(registry.family(_Named(name))), []).append(name)
    return found


def spelled(names: Sequence[str]) -> str:
    """Model types as code."""
    return ", ".join(f"`{name}`" for name in names)


def paged(kind: Kind, folder: str) -> str:
    """A link to the page of a family, which has the name of its file, if there is one."""
    page = kind.__module__.split(".")[-1] + ".md"
    return f"[{page.removesuffix('.md')}]({folder}{page})" if (ROOT / "docs/models" / page).exists() else ""


def index() -> Iterator[str]:
    """The page that lists all pages."""
    yield from ["# Methods", "", MADE, "", *tables(), "", "Fidelity, in the order of how much it promises:", ""]
    yield from (f"- **{word}**: {meaning}." for word, meaning in FIDELITY.items())


def page(method: Kind) -> str:
    """The page of one method."""
    spec = next(spec for spec in options.every() if spec.split(" + ")[-1] == method.name)
    facts = {
        "paper": paper(method),
        "where": "before the LLM" if method in before() else "inside the LLM, between its layers",
        "fidelity": fidelity(method),
        "budget": budget(method),
        "source": f"[`{(source := _source(method))}`](../../{source})",
    }
    lines = [f"# {method.name}", "", MADE, "", inspect.cleandoc(method.__doc__ or ""), ""]
    lines += ["```text", method.formula, "```", ""]
    lines += ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items() if value), ""]
    if method.published:
        lines += [
            "## What the authors' code does differently",
            "",
            *textwrap.wrap(method.published, 118, break_on_hyphens=False),
            "",
        ]
    lines += ["## Fields", "", f"Set them in the spec: `{_example(method, spec)}`.", ""]
    lines += ["| field | default | what it takes | meaning |", "|---|---|---|---|"]
    lines += [f"| `{field}` | `{default}` | {kind} | {words} |" for field, default, kind, words in fields(method)]
    asked = next(q for q in scenes.make(SCENE).questions if q.kind == "fine")
    methods = ",".join(dict.fromkeys(("full", spec.split(" + ")[0], spec)))
    command = f'herovlm compare {PICTURE} "{asked.text}" --answer {asked.answer} \\\n'
    command += f'  --methods "{methods}" --keep 0.2 --html {method.name}.html'
    return "\n".join([*lines, "", "## See it", "", "```bash", command, "```", ""])


def fidelity(method: Kind) -> str:
    """How near it comes to the paper and to the authors' code, and which variant of it does."""
    text = f"{method.fidelity}: {FIDELITY[method.fidelity]}"
    if method.fidelity == "golden parity" and "official" in (choices := variants(method)):
        text += f"; that is `{method.name}(variant='official')`, and the default, `'{choices[0]}'`, mends its quirks"
    return text


def budget(method: Kind) -> str:
    """Whether the budget is spent exactly, and by which variants it is not."""
    if method in inside():
        return BUDGET_INSIDE[method().exact]
    if not method().exact:
        return "not exactly what was asked: see above"
    loose = [f"`variant='{name}'`" for name in variants(method) if not method(variant=name).exact]
    return "exactly the positions asked for" + (f", but not with {' or '.join(loose)}: see above" if loose else "")


def variants(method: Kind) -> tuple[str, ...]:
    """The variants of a method that has some, the default first."""
    names = get_args(get_type_hints(method).get("variant"))
    return tuple(sorted(names, key=lambda name: bool(name != method().variant)))


def fields(method: Kind) -> Iterator[tuple[str, str, str, str]]:
    """Name, default, kind of value and comment of each field, the method's own first."""
    hints = get_type_hints(method)
    for kind in (k for k in method.__mro__ if dataclasses.is_dataclass(k)):
        source = textwrap.dedent(inspect.getsource(kind))
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        said = {token.start[0]: token.string.strip(" #") for token in tokens if token.type == tokenize.COMMENT}
        body = ast.parse(source).body[0]
        for node in body.body if isinstance(body, ast.ClassDef) else []:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                name = node.target.id
                if name in {field.name for field in dataclasses.fields(method)}:
                    lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                    words = " ".join(said[line] for line in lines if line in said)
                    yield name, ast.unparse(node.value), spell(hints[name]), words.replace("|", "\\|")


def sentence(thing: object) -> str:
    """First sentence of a docstring."""
    about = " ".join(inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", about)[0]


def paper(method: Kind) -> str:
    """The paper of a method, with a link when it is on arXiv."""
    return re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", method.paper)


def same_picture(image: Image.Image) -> bool:
    """Whether the committed picture has these pixels (its bytes depend on the compressor)."""
    if not (ROOT / PICTURE).exists():
        return False
    with Image.open(ROOT / PICTURE) as there:
        return there.size == image.size and not ImageChops.difference(there.convert("RGB"), image).getbbox()


def _example(method: Kind, spec: str) -> str:
    """A spec that sets the first field to its default."""
    name, default, _, _ = next(fields(method))
    return f"{spec}({name}={default})"


def _source(thing: type) -> str:
    """Path of the file that defines a class."""
    return f"src/{thing.__module__.replace('.', '/')}.py"


class _Named:
    """Something that has a config.model_type."""

    def __init__(self, kind: str) -> None:
        self.config, self.model_type = self, kind


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
