"""Several methods and budgets on one batch of prompts: theory beside truth, all measured in one race."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel

from herovlm import api
from herovlm.budget import Budget, Share, read, told
from herovlm.cost.clock import Samples, Way, race, ratio, spread
from herovlm.cost.count import counted
from herovlm.cost.run import answering
from herovlm.errors import HeroError, reason

Plan = Sequence[tuple[str, api.AnyKeep]]  # method and what it keeps
FULL = ("full", Share(1.0))


def survey(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    plan: Plan,
    *,
    new_tokens: Sequence[int] = (1,),
    rounds: int = 5,
    question: str | None = None,
    step: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Count and measure every (method, budget) of a plan on one batch of prompts.

    Returns:
        "rows", one a pair: "method", "keep", "theory" (see `counted`), "seconds" of each stage and "peak" bytes (median
        and both ends over the rounds; stages as in `answering`), and where the plan has the whole model: by how much
        "theory" asks for less and the first token comes "faster".  "refused": pairs that cannot be, why, and whether
        they "failed" by an error that no method raises on purpose.

    Raises:
        Exception: not one of the pairs can be measured; the error of the first.
    """
    theory: dict[tuple[str, Budget], dict[str, int]] = {}
    ways: dict[str, Way] = {}
    lost: dict[tuple[str, Budget], Exception] = {}
    for method, keep in ((method, read(keep)) for method, keep in plan):
        if step is not None:
            step(f"counting {_label(method, keep)}")
        try:
            options = api.Request.of(method, keep=keep, question=question)
            theory[method, keep] = counted(model, inputs, options)
        except Exception as error:  # whatever it is, the others are measured
            lost[method, keep] = error.with_traceback(None)  # which would hold on to memory
            continue
        ways[_label(method, keep)] = answering(model, inputs, options, new_tokens)
    dropped: dict[str, Exception] = {}
    measured = race(ways, rounds, step=step, lost=dropped)
    lost |= {pair: dropped[_label(*pair)] for pair in theory if _label(*pair) in dropped}
    if not measured:
        raise next(iter(lost.values()))
    refused = [{"method": m, "keep": told(k), **_told(error)} for (m, k), error in lost.items()]
    rows = _rows({pair: counts for pair, counts in theory.items() if pair not in lost}, measured)
    return {"batch": len(inputs["input_ids"]), "rows": rows, "refused": refused}


def _rows(theory: Mapping[tuple[str, Budget], dict[str, int]], measured: Mapping[str, Samples]) -> list[dict[str, Any]]:
    """Put theory and truth side by side, and both beside the whole model where that was measured."""
    whole = measured.get(_label(*FULL))
    rows = []
    for (method, keep), counts in theory.items():
        row = {"method": method, "keep": told(keep), "theory": counts, **_spreads(measured[_label(method, keep)])}
        if whole is not None:
            row["less"] = round(theory[FULL]["first_token"] / counts["first_token"], 4)
            row["faster"] = ratio(whole["first_token"], measured[_label(method, keep)]["first_token"])
        rows.append(row)
    return rows


def _told(error: Exception) -> dict[str, Any]:
    return {"error": reason(error), "failed": not isinstance(error, HeroError)}


def _label(method: str, keep: Budget) -> str:
    return f"{method} at {keep}"


def _spreads(samples: Samples) -> dict[str, Any]:
    found = {what: spread(values) for what, values in samples.items()}
    peak = found.pop("peak")
    return {"seconds": found, "peak": peak}
