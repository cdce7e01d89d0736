"""All that a study says, as one JSON object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from herovlm.errors import UsageError, reason
from herovlm.eval import records
from herovlm.study.summary import attention, roles, tiles, verdict


def summarise(folder: Path, findings: Sequence[str]) -> dict[str, Any]:
    """Sum up the records of a study.

    Args:
        folder: of the study.
        findings: names of those to sum up.

    Raises:
        UsageError: the folder holds no study, no records of it, or such as were changed by hand.
        MissingExtraError: scipy is not installed.
    """
    meta = records.meta(folder)
    if "study" not in meta:
        raise UsageError(f"{folder} holds no study; 'herovlm study' makes one")
    lines, closing = records.read(folder)
    if not closing:
        raise UsageError(f"no records in {folder}; 'herovlm study' writes them")
    failed = {f"{end['task']}, picture {end['picture']}": end["unusable"] for end in closing if "unusable" in end}
    if failed and not lines:
        raise UsageError(f"nothing could be measured: {': '.join(next(iter(failed.items())))}")
    try:
        return {**_whole(meta, lines, findings), "failed": failed}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"{folder} is not as 'herovlm study' has written it ({reason(error)}): {records.META} or the records were "
            "changed by hand; put a copy back, or make the study again elsewhere"
        ) from error


def _whole(meta: Mapping[str, Any], lines: Sequence[records.Record], findings: Sequence[str]) -> dict[str, Any]:
    """Sum up all records."""
    by: dict[str, list[records.Record]] = {name: [] for name in ("tiles", "attention", "roles", "probes")}
    for line in lines:
        by[line["task"]].append(line)
    made = {
        "tiles": lambda: tiles.summarise(by["tiles"]),
        "attention": lambda: attention.summarise(by["attention"]),
        "roles": lambda: roles.summarise(by["roles"], by["probes"]),
    }
    (task,), (model,) = meta["settings"]["tasks"], meta["settings"]["models"]
    return {
        "benchmark": "study",
        **{name: meta[name] for name in ("versions", "machine")},
        "commit": meta.get("commit", ""),
        "model": model,
        "model_facts": meta.get(f"model {model}", {}),
        "task": task,
        "rule": verdict.RULE,
        "findings": {name: made[name]() for name in made if name in findings},
    }
