"""Reading what was typed: keep, methods, pictures and the question, with errors before any heavy work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from herovlm.errors import BudgetError, InputsError, UsageError

if TYPE_CHECKING:
    from PIL import Image

    from herovlm.budget import Budget
    from herovlm.request import Positions

Model = Annotated[str, typer.Option(help="'demo', the folder of a model, or its name on the hub.")]
Clip = Annotated[str | None, typer.Option(help="Folder or name of the CLIP that scores the question.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch the model from the hub if it is not here yet.")]
Html = Annotated[Path | None, typer.Option(help="Write a page that shows what was kept.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
JsonAnswers = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print JSON and nothing else.  Of each answer first_token_seconds is seeing, choosing and prefill (the "
        "median of so many rounds), answer_seconds that and writing the rest, once.",
    ),
]
Narrow = Annotated[
    str | None, typer.Option(help="Share of the patches (0.5) that goes on behind a middle block of the vision tower.")
]
Decoding = Annotated[
    str | None, typer.Option(help="Strategy that the answer goes through, such as contrast (herovlm methods).")
]
Module = Annotated[
    str | None,
    typer.Option(help="Trained part to put on the model: a name that comes along, or a folder with a module.json."),
]
NewTokens = Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")]

Task = Annotated[
    str, typer.Option(help="'board', a .yaml, a .jsonl or its folder: pictures with questions and answers.")
]
Metric = Annotated[str | None, typer.Option(help="How answers are scored, where the task does not say.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only so many pictures of a task, with all their questions.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.")]
Batch = Annotated[
    int,
    typer.Option(min=1, help="Most positions that the LLM reads at once; less needs less memory, more suits a GPU."),
]
TaskTokens = Annotated[int | None, typer.Option(min=1, help="Longest answer, instead of what the task says.")]

Keep = Annotated[
    str | None, typer.Option(help="Share of the visual positions, such as 0.2, or auto.", show_default="0.2")
]
Tokens = Annotated[str | None, typer.Option(help="Instead: visual positions an image, such as 64.")]
SeveralTokens = Annotated[str | None, typer.Option(help="Instead or as well: numbers of positions, such as 64,128.")]


def budget_of(keep: str | None, tokens: str | None) -> Budget:
    """Read `--keep` or `--tokens` of one answer; with commas between, one value a picture.

    Raises:
        BudgetError: both are given, or one cannot be read.
    """
    from herovlm import budget

    if keep is not None and tokens is not None:
        raise BudgetError(f"--keep {keep} and --tokens {tokens} are both given; give one of them")
    if tokens is not None:
        return budget.tokens_of(tokens)
    return budget.read() if keep is None else _keep(keep)


def budgets_of(keep: str | None, tokens: str | None, default: str) -> list[Budget]:
    """Read what several runs keep, with commas between: shares of `--keep`, then numbers of `--tokens`.

    Raises:
        BudgetError: one cannot be read.
    """
    from herovlm import budget, spec

    keep = default if keep is None and tokens is None else keep
    keeps, numbers = ([] if text is None else spec.split(text) for text in (keep, tokens))
    return list(dict.fromkeys([*map(_keep, keeps), *map(budget.tokens_of, numbers)]))


def _keep(text: str) -> Budget:
    from herovlm import budget

    return budget.parse(text) if text.strip().startswith("auto") else budget.shares_of(text)


def narrow_of(text: str | None) -> float | tuple[float | int, float] | None:
    """Read a share ("0.5"), or block and share ("0.4:0.5", "12:0.5").

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    block, _, share = text.rpartition(":")
    try:
        read = float(share)
        where = None if not block else float(block) if "." in block else int(block)
    except ValueError:
        read, where = 0.0, None
    if not 0.0 < read <= 1.0:
        raise UsageError(f"--narrow {text!r} is neither a share such as 0.5 nor block and share such as 12:0.5")
    return read if where is None else (where, read)


def positions_of(text: str | None) -> Positions | None:
    """Check how kept positions shall be numbered.

    Raises:
        UsageError: there is no such way.
    """
    if text not in (None, "compact", "original"):
        raise UsageError(f"--positions {text!r} is unknown; use 'compact' or 'original'")
    return cast("Positions | None", text)


def method_of(text: str) -> str:
    """Check the spec of a method and write it in its shortest form.

    Raises:
        MethodError: the method or a field is unknown.
    """
    from herovlm import spec

    return str(spec.parse(text))


def way_of(method: str | None, decoding: str | None) -> str:
    """Put a method and a strategy together, each checked; a strategy alone has a method of its own.

    Raises:
        MethodError: one of them is unknown, or they do not go together.
    """
    if decoding is None:
        return method_of(method or "hero")
    return method_of(decoding if method is None else f"{method} + {decoding}")


def methods_of(text: str) -> list[str]:
    """Split "hero(alpha=0.3, t_cls=0.1),random" at the commas outside brackets and check each.

    "all" is every method, "before" is every one that chooses before the language model.

    Raises:
        MethodError: a method or a field is unknown.
    """
    from herovlm import spec

    groups = {"all": every(), "before": [name for name in every() if "+" not in name]}
    named = [name for part in spec.split(text) for name in groups.get(part, [part])]
    return list(dict.fromkeys(method_of(name) for name in named))


def every() -> list[str]:
    """Name every method: the yardstick, those before the LLM, and those inside it, each behind one that goes before.

    That is its own first stage where the paper has one ("todre + todre_llm"), else HERO.
    """
    from herovlm import registry

    before = registry.methods()
    firsts = {name: name.removesuffix("_llm") for name in registry.insides()}
    return ["full", *before, *(f"{first if first in before else 'hero'} + {name}" for name, first in firsts.items())]


def answer_of(text: str | None) -> str | None:
    """Check the right answer.

    Raises:
        UsageError: it has no word in it.
    """
    if text is not None and not any(sign.isalnum() for sign in text):
        raise UsageError(f"--answer {text!r} holds no word to look for; give the right answer, such as --answer 472")
    return text


def question_of(text: str) -> str:
    """Check the question.

    Raises:
        UsageError: it is empty, or the name of a file.
    """
    if not text.strip():
        raise UsageError('the question is empty; write it in quotes after the picture: "what does the sign say?"')
    if _is_file(text):
        raise UsageError(f"{text} is a file, so the question is missing; write it in quotes after the picture")
    return text.strip()


def pictures_and_question(words: list[str]) -> tuple[list[str], str]:
    """Split what was typed: pictures first, the question last.

    Raises:
        UsageError: one of them is missing.
    """
    question = question_of(words[-1])
    if len(words) < 2:
        raise UsageError('the picture is missing; type: herovlm ask PICTURE "question"')
    return words[:-1], question


def plan_of(methods: Sequence[str], budgets: Sequence[Budget]) -> list[tuple[str, Budget]]:
    """Pair every method with every budget; "full" keeps all, so it comes once, also where pruning goes on behind it."""
    from herovlm.budget import Share

    pairs = [(name, Share(1.0) if name.split(" + ")[0] == "full" else one) for name in methods for one in budgets]
    return list(dict.fromkeys(pairs))


def open_pictures(paths: list[str]) -> tuple[tuple[str, Image.Image], ...]:
    """Open every picture, by name.

    Raises:
        PictureError: one of them cannot be opened.
    """
    from herovlm.pictures import open_picture

    return tuple((Path(path).name, open_picture(path)) for path in paths)


def target(path: Path | None, inputs: Sequence[str] = ()) -> Path | None:
    """Check where a page shall be written, before any work is done.

    Raises:
        UsageError: it is a directory, has no directory, or would overwrite a picture.
    """
    if path is None:
        return None
    if str(path) == "-":
        raise UsageError(
            "a page is not printed; give the name of its file, such as --html page.html (--json prints data)"
        )
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise UsageError(f"{path} is not a file; give the name of the page, such as {path / 'page.html'}")
    if not path.parent.is_dir():
        raise UsageError(f"there is no directory {path.parent}; make it first or choose another place for the page")
    if path.exists() and any(_is_file(name) and path.samefile(name) for name in inputs):
        raise InputsError(f"{path} is a picture of the question; give another name for the page")
    return path


def threads_of(threads: int | None) -> int | None:
    """Check a number of CPU threads.

    Raises:
        UsageError: it is far more than this machine can use.
    """
    most = 4 * (os.cpu_count() or 1)
    if threads is not None and threads > most:
        raise UsageError(f"--threads {threads} is more than this machine can use; give {most} or fewer")
    return threads


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False
