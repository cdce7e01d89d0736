"""`herovlm bench`: what answering costs, in theory and in truth, with all visual positions and with fewer."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from herovlm.cli import options, show
from herovlm.cli.tidy import some_failed, tidy
from herovlm.errors import HeroError, UnsupportedError, UsageError, reason

if TYPE_CHECKING:
    from herovlm.budget import Budget
    from herovlm.cost.survey import Plan

QUESTION = "What number is on the red square?"
DTYPES = ("bfloat16", "float16", "float32")
KEEPS = "1,0.4,0.2,0.1,0.05"
ATTENTION = ("sdpa", "eager", "flash_attention_2")
LEGEND = (
    "less, faster: the first token against that of all positions, in FLOPs and in time (below 1: slower); +-: half "
    "the range of its times; next: each further token; of N: an answer of N tokens"
)


@tidy
def bench(
    model: options.Model = "demo",
    shape: Annotated[
        str | None, typer.Option(help="Instead of a model: random weights of this shape, such as llava-next-7b.")
    ] = None,
    llm_layers: Annotated[int | None, typer.Option(min=1, help="With --shape: layers of the LLM, if not all.")] = None,
    methods: Annotated[str, typer.Option(help="Methods, with commas between; 'all' is every one.")] = "hero,random",
    keep: Annotated[str | None, typer.Option(help="Shares of the visual positions.", show_default=KEEPS)] = None,
    tokens: options.SeveralTokens = None,
    batch: Annotated[str, typer.Option(help="Prompts at a time, such as 1,4,8.")] = "1",
    new_tokens: Annotated[str, typer.Option(help="Lengths of the answer in tokens, such as 1,64.")] = "1,16",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; all methods run once in each.")] = 5,
    dtype: Annotated[str | None, typer.Option(help=f"{', '.join(DTYPES)}; as loaded, or bfloat16 for shapes.")] = None,
    attention: Annotated[str | None, typer.Option(help=f"{', '.join(ATTENTION)}; sdpa if nothing is said.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    json: options.Json = False,
    clip: options.Clip = None,
    download: options.Download = False,
) -> None:
    """Measure what answering costs, and count what it should cost.

    Every prompt has one picture of 2 x 2 tiles, or of 48 x 48 patches (random pixels), and 60 tokens of text.  Times
    are medians over rounds in which all methods take turns, after one that is not counted.  The first token has come
    after seeing, choosing and reading the prompt; "less" and "faster" compare it, in theory and in truth, with all
    positions.
    """
    wanted = {"dtype": _one_of(dtype, DTYPES, "--dtype"), "attention": _one_of(attention, ATTENTION, "--attention")}
    batches, lengths = _numbers(batch, "--batch"), _numbers(new_tokens, "--new-tokens")
    budgets = options.budgets_of(keep, tokens, KEEPS)
    plan = _plan(options.methods_of(methods), budgets)  # last: loads libraries
    with show.progress(1 + len(batches) * len(plan) * (2 + rounds)) as step:
        step("loading libraries")
        import torch

        from herovlm.cli import load

        torch.set_num_threads(options.threads_of(threads) or torch.get_num_threads())
        with load.quiet():
            ready = _model(model, shape, llm_layers, clip, download, plan, wanted)
            how: Any = {"new_tokens": lengths, "rounds": rounds, "question": QUESTION, "step": step}
            found = [_survey(ready, size, plan, how) for size in batches]
    about = {"model": shape or model, "rounds": rounds, **_about(ready)}
    if json:
        show.as_json({**about, "batches": found})
    else:
        for one in found:
            _print(one, about, lengths)
        typer.echo(f"\n{LEGEND}")
    some_failed([f"{_line(cell)}, batch {one['batch']}" for one in found for cell in one["refused"] if cell["failed"]])


def _survey(model: Any, size: int, plan: Plan, how: dict[str, Any]) -> dict[str, Any]:
    """Measure one batch size; where nothing can be measured of it, say so, and let the others be measured.

    Raises:
        HeroError: the first error of ours, which more or fewer prompts do not change.
    """
    from herovlm.budget import read, told
    from herovlm.cost import shapes
    from herovlm.cost.survey import survey

    try:
        return survey(model, shapes.prompt(model, size), plan, **how)
    except HeroError:
        raise
    except Exception as error:
        lost = {"error": reason(error), "failed": True}
        return {"batch": size, "rows": [], "refused": [{"method": m, "keep": told(read(k)), **lost} for m, k in plan]}


def _model(
    name: str, shape: str | None, layers: int | None, clip: str | None, download: bool, plan: Plan, wanted: Any
) -> Any:
    """Load or make what is measured.

    Raises:
        UsageError: --llm-layers without --shape.
        UnsupportedError: this attention is not to be had here.
        HeroError: there is no such model or shape.
    """
    import torch

    from herovlm import api
    from herovlm.cli import load
    from herovlm.cost import shapes
    from herovlm.settle import DEPTH

    if shape is None and layers is not None:
        raise UsageError(
            "--llm-layers cuts a shape, not a loaded model; say --shape too, such as --shape llava-next-7b"
        )
    dtype = None if wanted["dtype"] is None else getattr(torch, wanted["dtype"])
    if shape is None:
        model, _ = load.load(name, clip=clip, download=download)
        model = model if dtype is None else model.to(dtype)
    else:
        methods = [api.Request.of(method, keep=keep).method for method, keep in plan]
        model = shapes.build(
            shape,
            llm_layers=layers,
            dtype=dtype or torch.bfloat16,
            device="cuda" if torch.cuda.is_available() else "cpu",
            original_clip=any(method.needs(DEPTH).relevance == "clip" for method in methods),
        )
    try:
        model.set_attn_implementation(wanted["attention"] or "sdpa")
    except (ImportError, ValueError) as error:
        raise UnsupportedError(f"--attention {wanted['attention']}: {error}") from error
    return model


def _about(model: Any) -> dict[str, Any]:
    """Describe what was measured on."""
    import torch

    from herovlm.cost import memory

    return {
        "llm_layers": model.config.get_text_config().num_hidden_layers,
        "dtype": str(model.dtype).removeprefix("torch."),
        "attention": model.config._attn_implementation,
        "device": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "memory": memory.kind(model.device),
    }


def _plan(methods: list[str], budgets: Sequence[Budget]) -> Plan:
    """Pair methods with budgets; all positions are the same model whatever the method, so they come once and first."""
    from herovlm.cost.survey import FULL

    pairs = options.plan_of(methods, budgets)
    same = [FULL if one.whole and not name.startswith("full + ") else (name, one) for name, one in pairs]
    return sorted(dict.fromkeys(same), key=lambda pair: pair != FULL)


def _print(found: dict[str, Any], about: dict[str, Any], lengths: list[int]) -> None:
    """Print the table of one batch size."""
    from herovlm.viz import units

    if not found["rows"]:
        typer.echo(f"\nbatch {found['batch']}: nothing could be measured: {found['refused'][0]['error']}")
        return
    first = found["rows"][0]["theory"]
    typer.echo(
        f"\n{about['model']}, {about['llm_layers']} LLM layers, batch {found['batch']}: {first['tiles']} tiles, "
        f"{first['of']:,} visual positions; {about['dtype']}, {about['attention']}, "
        f"{units.count(about['threads'], 'thread')}, {units.count(about['rounds'], 'round')}; peak: {about['memory']}\n"
    )
    longer = [n for n in lengths if n > 1]
    columns = [
        "method",
        "keep",
        "kept",
        "TFLOP",
        "less",
        "cache MiB",
        "vision ms",
        "choice ms",
        "first ms",
        "+-",
        "faster",
    ]
    columns += ["next ms"] * bool(longer) + [f"of {n} ms" for n in longer] + ["peak MiB"]
    later = ["decode"] * bool(longer) + [f"answer {n}" for n in longer]
    rows = []
    for row in found["rows"]:
        counts, times = row["theory"], row["seconds"]
        first = times["first_token"]
        rows.append(
            [
                row["method"],
                str(row["keep"]),
                f"{counts['positions']:,}",
                f"{counts['first_token'] / 1e12:.3g}",
                f"{row['less']:.2f}x" if "less" in row else "",
                f"{counts['cache'] / 2**20:,.1f}",
                *(f"{1e3 * times[stage]['median']:,.1f}" for stage in ("vision", "selection", "first_token")),
                units.share(first["max"] - first["min"], 2 * first["median"]),
                f"{row['faster']:.2f}x" if "faster" in row else "",
                *(f"{1e3 * times[stage]['median']:,.1f}" for stage in later),
                f"{row['peak']['median'] / 2**20:,.0f}",
            ]
        )
    show.table(columns, rows, right=tuple(columns[1:]))
    typer.echo("\n".join(map(_line, found["refused"])), nl=bool(found["refused"]))


def _line(one: dict[str, Any]) -> str:
    return f"{one['method']} at {one['keep']} {'FAILED' if one['failed'] else 'cannot'}: {one['error']}"


def _one_of(text: str | None, known: tuple[str, ...], name: str) -> str | None:
    if text is not None and text not in known:
        raise UsageError(f"{name} {text!r} is unknown; give {', '.join(known[:-1])} or {known[-1]}")
    return text


def _numbers(text: str, name: str) -> list[int]:
    """Read whole numbers, with commas between."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UsageError(f"{name} {text!r}: give whole numbers from 1 on, with commas between, such as 1,4,8")
    return list(dict.fromkeys(numbers))
