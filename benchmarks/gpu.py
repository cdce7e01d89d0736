"""What counts on one GPU, in five minutes: `python benchmarks/gpu.py [--small] --json FILE|-`.

The whole shape (llava-next-7b unless --shape says otherwise) with random weights in bfloat16; images of 2 x 2 tiles and
60 tokens of text.  Times are CUDA events, memory is what CUDA's allocator gave.  The most important comes first, and
the file is written after every cell, so that a run that is cut off leaves what it had; a cell that fails says why, and
so do those that --seconds left no time for.  The parts:

first_token  vision, selection, prefill and their sum by HERO at every keep, beside the ideal (the same model given so
             many positions, chosen by nobody) and the arithmetic; larger batches at two keeps.  "signals_over_tower" is
             vision over the plain tower and projector, "drop_over_tower" has the selection, too; ratios are of the
             best round of each
traffic      kernel launches and waits of the host in one `drop` and in the plain tower; operations and reads of tensors
             that stem from weights, pixels or token ids, which need no GPU to be counted
choosing     choosing and rebuilding the prompt by every method before the LLM, at keep=0.2
answers      whole answers of the untouched model and of HERO at keep=0.2, and peak memory: by batch, decoded step by
             step ("eager") and with a static cache, for which transformers compiles decoding

--small does the same on the CPU in two minutes: a shape with the proportions of the real one, in float32, by one thread
and its own time, which neighbours on a busy machine disturb little.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any

import record
import torch

import herovlm
from herovlm import registry
from herovlm.budget import Share
from herovlm.cost import shapes, traffic
from herovlm.cost.clock import Samples, Way, race, spread
from herovlm.cost.count import counted
from herovlm.cost.run import answering, ideal, selecting
from herovlm.errors import reason

METHOD, KEEP, WHOLE = "hero", 0.2, 1.0
STAGES = ("vision", "selection", "prefill", "first_token")
DECODING: dict[str, dict[str, Any]] = {"eager": {}, "static": {"cache_implementation": "static"}}
LONGEST = {"eager": 64, "static": 256}  # answers, in tokens: step by step each takes as long as the one before
PARTS = ("first_token", "traffic", "choosing", "answers")
Cell = tuple[str, str, Callable[[], dict[str, Any]]]  # part, name, what measures it


def measure(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure cell after cell, and hand over all that there is after each."""
    begun = time.monotonic()
    model = record.model(args)
    found: dict[str, Any] = {"method": METHOD, "keep": KEEP, "complete": False, "seconds": 0.0, "ratios": {}}
    for part, name, cell in cells(args, model):
        late = time.monotonic() - begun > args.seconds
        found.setdefault(part, {})[name] = _late(args.seconds) if late else attempt(cell)
        found["ratios"] = ratios(found)
        found["seconds"] = round(time.monotonic() - begun, 1)
        yield found
    yield {**found, "complete": True}


def cells(args: argparse.Namespace, model: Any) -> Iterator[Cell]:
    """List what is measured, the most important first."""
    batches = (2,) if args.small else (8, 32)
    asked = [("first_token", "batch 1", partial(first_token, model, 1, record.KEEPS, args.rounds, theory=True))]
    asked += [("traffic", f"batch {n}", partial(stalls, model, n)) for n in (1, 4 if args.small else 8)]
    few = max(1, args.rounds // 2)
    names = registry.METHODS if args.methods == "all" else args.methods.split(",")
    asked += [("choosing", name, partial(choosing, model, name, few)) for name in names]
    asked += [("first_token", f"batch {n}", partial(first_token, model, n, (WHOLE, KEEP), few)) for n in batches]
    sizes = (1,) if args.small else (1, *batches)
    for batch in sizes:
        for how, longest in LONGEST.items():
            lengths = (1, 4, 8) if args.small else [n for n in (1, 16, 64, 256) if n <= longest]
            asked.append(("answers", f"batch {batch}, {how}", partial(answers, model, batch, how, lengths)))
    return (cell for cell in asked if cell[0] in args.parts.split(","))


def attempt(cell: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Measure a cell, or note why it cannot be."""
    try:
        return cell()
    except Exception as error:  # whatever it is, the other cells are measured
        return {"error": reason(error)}
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def first_token(
    model: Any, batch: int, keeps: Sequence[float], rounds: int, theory: bool = False
) -> dict[str, dict[str, Any]]:
    """Race the method and the ideal at every keep."""
    inputs = shapes.prompt(model, batch)
    of = int((inputs["input_ids"][0] == model.config.image_token_id).sum())
    ways: dict[str, Way] = {}
    for keep in keeps:
        ways[f"{METHOD}@{keep}"] = answering(model, inputs, record.asked(METHOD, keep))
        ways[f"ideal@{keep}"] = ideal(model, inputs, Share(keep).of(of))
    samples = race(ways, rounds)
    flops = {k: counted(model, inputs, record.asked(METHOD, k))["first_token"] for k in keeps if theory}
    rows = {}
    for keep in keeps:
        row = beside(samples[f"{METHOD}@{keep}"], samples[f"ideal@{keep}"])
        row["faster"] = best(samples[f"{METHOD}@{WHOLE}"]["first_token"], samples[f"{METHOD}@{keep}"]["first_token"])
        less = {"in_theory": round(flops[WHOLE] / flops[keep], 4)} if theory else {}
        rows[str(keep)] = {"positions": Share(keep).of(of), "of": of, **row, **less}
    return rows


def beside(this: Samples, perfect: Samples) -> dict[str, Any]:
    """Put the stages of a method beside those of the ideal."""
    dropped = [sum(stages) for stages in zip(this["vision"], this["selection"], strict=True)]
    return {
        **{stage: spread(this[stage]) for stage in STAGES},
        "peak": spread(this["peak"]),
        "ideal": {stage: spread(perfect[stage]) for stage in STAGES},
        "first_token_over_ideal": best(this["first_token"], perfect["first_token"]),
        "signals_over_tower": best(this["vision"], perfect["vision"]),
        "drop_over_tower": best(dropped, perfect["vision"]),
    }


def best(values: Sequence[float], of: Sequence[float]) -> float:
    """Divide the best round of one by that of another: what disturbs a run only ever makes it longer."""
    return round(min(values) / min(of), 4)


def stalls(model: Any, batch: int) -> dict[str, dict[str, int]]:
    """Count what one `drop`, and the plain tower, give the device to do, and how often the host waits."""
    inputs = shapes.prompt(model, batch)
    vision = {name: inputs[name] for name in ("pixel_values", "image_sizes") if name in inputs}
    runs: dict[str, Callable[[], object]] = {
        "tower": lambda: model.base_model.get_image_features(**vision, return_dict=True),
        "drop": lambda: herovlm.drop(model, inputs, method=METHOD, keep=KEEP, question=shapes.QUESTION),
    }
    found = {}
    for name, run in runs.items():
        with torch.no_grad():
            run()  # what may be remembered is
            with traffic.counted(traffic.roots(model, inputs)) as one:
                run()
            seen = {"operations": one.operations, "reads": one.waits}
            found[name] = {**seen, **(traffic.launched(run) if model.device.type == "cuda" else {})}
    return found


def choosing(model: Any, name: str, rounds: int) -> dict[str, Any]:
    """Time choosing and rebuilding alone."""
    way = selecting(model, shapes.prompt(model), record.asked(name, KEEP))
    return {"selection": spread(race({name: way}, rounds, warmup=2)[name]["seconds"])}  # its loops are graphs by then


def answers(model: Any, batch: int, how: str, lengths: Sequence[int]) -> dict[str, Any]:
    """Answer with all positions and with a fifth, once after a warm-up: what is compiled is compiled there."""
    inputs = shapes.prompt(model, batch)
    asked = {"full": record.asked("full", WHOLE), METHOD: record.asked(METHOD, KEEP)}
    if how == "eager":  # every token is like the first ones
        race({name: answering(model, inputs, one, (2,)) for name, one in asked.items()}, 1, warmup=0)
    ways = {name: answering(model, inputs, one, lengths, **DECODING[how]) for name, one in asked.items()}
    samples: dict[str, Samples] = {}
    for name, way in ways.items():  # transformers makes a static cache as long as the longest that the model has had
        vars(model).pop("_previous_max_cache_length", None)
        samples |= race({name: way}, 1, warmup=int(how != "eager"))
    named = [f"answer {n}" for n in lengths]
    return {
        "rounds": 1,
        **{name: {what: median(of[what]) for what in (*named, "decode", "peak")} for name, of in samples.items()},
        "faster": {what: best(samples["full"][what], samples[METHOD][what]) for what in named},
    }


def ratios(found: dict[str, Any]) -> dict[str, Any]:
    """Gather what is asked of a run: of cells that have been measured."""
    cells = {name: rows for name, rows in found.get("first_token", {}).items() if "error" not in rows}
    names = ("first_token_over_ideal", "signals_over_tower", "drop_over_tower", "faster")
    got: dict[str, Any] = {
        what: {c: {k: r[what] for k, r in rows.items()} for c, rows in cells.items()} for what in names
    }
    whole = {name: one["faster"] for name, one in found.get("answers", {}).items() if "error" not in one}
    return got | {"answers_faster": whole}


def _late(seconds: float) -> dict[str, Any]:
    return {"error": f"not begun: the {seconds:g} seconds were over", "late": True}


if __name__ == "__main__":
    cuda = torch.cuda.is_available()
    parts = {"default": ",".join(PARTS), "help": "which parts, with commas between"}
    methods = {"default": "all", "help": "methods of the part choosing"}
    limit = {"type": float, "default": 240.0, "help": "after so many no cell is begun"}
    how: dict[str, Any] = {"rounds": 7, "device": "cuda" if cuda else "cpu", "processor": True}
    record.main(__doc__, "gpu", measure, **how, parts=parts, methods=methods, seconds=limit)
