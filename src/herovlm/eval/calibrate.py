"""What `keep="auto"` goes by, measured: positions for each different patch against the loss of a task's score.

The loss of a rate is that of the score beside the untouched model's, and the curve takes the upper end of its 95 %
interval, so that promises are kept.  `herovlm.auto` reads the file and says what a different patch is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from herovlm import __version__, auto, spec
from herovlm.budget import Share, Tokens
from herovlm.errors import BudgetError, ModelError, SetupError, UsageError, reason
from herovlm.eval import metrics, records, stats
from herovlm.eval.answer import Reader
from herovlm.eval.plan import Config
from herovlm.eval.run import Load, commit, facts
from herovlm.eval.samples import Asked, Picture
from herovlm.methods.full import Full
from herovlm.prompt.template import prompt
from herovlm.types import Needs
from herovlm.view import see

EACH = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)  # positions for each different patch
FULL = Config(Full(), Share(1.0))
Point = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What is asked of whom."""

    asked: Asked
    methods: Sequence[str]
    name: str  # of the model
    load: Load
    limit: int | None = None
    max_new_tokens: int | None = None  # instead of the task's own
    batch: int = 16_384  # most positions in one pass of the language model

    @property
    def about(self) -> dict[str, Any]:
        """Task and versions, as the file has them."""
        task = self.asked.task
        return {
            "task": {"name": task.name, "version": task.version, "split": self.asked.split, "data": self.asked.data},
            "metric": task.metric,
            "pictures": len(self.asked.pictures),
            "max_new_tokens": self.max_new_tokens or task.max_new_tokens,
            "versions": {
                "herovlm": __version__,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
        }

    def go(self, folder: Path, step: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
        """Ask what has not been asked yet, and sum it up as a calibration.

        Args:
            folder: where the records are; a calibration that was ended at any moment goes on where it was.
            step: is told what comes next, once a picture.

        Raises:
            UsageError: the folder holds another run, or the untouched model scores nothing.
            HeroError: the model, or not one picture, can be used.
        """
        records.agree(folder, {"calibration": {**self.about, "model": self.name, "methods": [*self.methods]}})
        with records.writing(folder, 0, 1) as writer:
            ready = None
            for number, picture in enumerate(self.asked.pictures, 1):
                step(f"{self.asked.task.name} {self.asked.split}, picture {number:,} of {len(self.asked.pictures):,}")
                group = {"model": self.name, "task": self.asked.task.name, "split": self.asked.split}
                group["picture"] = picture.name
                if records.group_of(group) in writer.done:
                    continue
                if ready is None:
                    ready = self.load()
                    told = {"facts": facts(ready[0]), "weights": auto.fingerprint(ready[0])}
                    records.agree(folder, {"measured on": told}, commit=commit())
                writer.write([], {"done": 0, **group, **self._line(*ready, picture)})
        return self.summed(records.read(folder)[1], records.meta(folder)["measured on"])

    def _line(self, model: Any, processor: Any, picture: Picture) -> dict[str, Any]:
        """Measure a picture, or note why it cannot be used; the same command tries it again."""
        try:
            return self._measured(model, processor, picture)
        except (SetupError, ModelError):
            raise
        except Exception as error:
            return {"unusable": reason(error)}

    def _measured(self, model: Any, processor: Any, picture: Picture) -> dict[str, Any]:
        """Score a picture with all positions, and by every method at every rate."""
        image, samples = picture.read()
        questions = [sample.question for sample in samples]
        metric = metrics.find(self.asked.task.metric)
        inputs = processor(images=[image], text=[prompt(processor, questions[0])], return_tensors="pt")
        inputs = inputs.to(model.device, model.dtype)
        needs = Needs(hidden=True)
        (seen,) = see(model, inputs, needs=needs).seen(needs)
        count, of = auto.different(seen), seen.positions
        at = {each: Tokens(max(1, round(each * count))) for each in EACH}
        rates = {
            (name, each): Config(spec.parse(name), tokens) if tokens.each < of else FULL  # type: ignore[operator]
            for name in self.methods
            for each, tokens in at.items()
        }
        tokens = self.max_new_tokens or self.asked.task.max_new_tokens
        reader = Reader(model, processor, self.asked.task.prompt, tokens, self.batch)
        found = reader.answer(image, questions, list(dict.fromkeys([FULL, *rates.values()])))
        sums: dict[Config, Any] = {}
        kept: dict[Config, float] = {}
        for one in found.answers:
            wanted = samples[one.question].answers
            score = metric.score(one.text, wanted)
            sums[one.config] = sums.get(one.config, 0) + np.array(metric.counts(score, one.text, wanted))
            kept[one.config] = kept.get(one.config, 0) + one.kept / len(questions)
        lost = {**found.refused, **found.failed}
        if FULL not in sums:
            raise UsageError(f"{picture.name}: the untouched model cannot answer: {lost[FULL]}")
        lines = [
            {"method": name, "each": each, "counts": sums[config].tolist(), "keep": kept[config] / of}
            if config in sums
            else {"method": name, "each": each, "refused": lost[config]}
            for (name, each), config in rates.items()
        ]
        return {"questions": len(questions), "different": count, "full": sums[FULL].tolist(), "rates": lines}

    def summed(self, lines: Sequence[records.Record], told: Mapping[str, Any]) -> dict[str, Any]:
        """Write what was measured as a calibration."""
        total = metrics.find(self.asked.task.metric).total
        unusable = {line["picture"]: line["unusable"] for line in lines if "unusable" in line}
        lines = [line for line in lines if "unusable" not in line]
        if not lines:
            raise UsageError(f"nothing could be measured: {': '.join(next(iter(unusable.items())))}")
        full = np.array([line["full"] for line in lines])
        if not total(full.sum(0)) > 0:
            raise UsageError(
                f"{self.name} with all positions scores 0 on {self.asked.task.name}, so nothing can be lost; "
                "give a task that it can do"
            )
        curves: dict[str, Any] = {}
        measured: dict[str, Any] = {}
        for name in self.methods:
            points: dict[float, Point] = {}
            for each in EACH:
                own = [r for line in lines for r in line["rates"] if (r["method"], r["each"]) == (name, each)]
                if all("counts" in rate for rate in own):  # else some pictures cannot keep so little
                    points[each] = lost(np.array([rate["counts"] for rate in own]), full, total)
                    points[each]["mean_keep"] = round(float(np.mean([rate["keep"] for rate in own])), 4)
            if not points:
                raise BudgetError(f"{name} cannot keep to any of the rates on all pictures; its page says why")
            curves[name] = curve_of({each: point["interval95"][1] for each, point in points.items()})
            about = {**self.about, "pictures": len(lines), "questions": sum(line["questions"] for line in lines)}
            rates = {str(each): point for each, point in points.items()}
            measured[name] = {**about, "unusable": unusable, **told["facts"], "rates": rates}
        return {
            "calibration": "herovlm",
            "format": 1,
            "model": {"name": self.name, "class": told["facts"]["class"], "weights": told["weights"]},
            "curves": curves,
            "measured": measured,
        }


def lost(counts: Any, full: Any, total: stats.Total) -> Point:
    """Share of the untouched model's score that is lost, with its interval.

    Args:
        counts: (P, C) sums over the questions of each picture.
        full: (P, C) those of the untouched model.
        total: what to make of their sums.
    """

    def loss(counts: Any, full: Any) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            return 1 - total(counts) / total(full)

    ends = stats.interval_between(counts, full, loss)
    return {"loss": round(float(loss(counts.sum(0), full.sum(0))), 4), "interval95": [round(end, 4) for end in ends]}


def curve_of(upper: Mapping[float, float]) -> list[tuple[float, float]]:
    """Losses, smallest first, and the positions each: from the upper end of each rate's interval, made to rise."""
    points: list[tuple[float, float]] = []
    for each in sorted(upper, reverse=True):
        loss = max(upper[each], 0.001, *(before + 1e-4 for before, _ in points[-1:]))
        points.append((round(loss, 4), each))
    return points


def write(path: Path, found: Mapping[str, Any]) -> None:
    """Write a calibration, whole or not at all; methods that were measured before on the same model stay.

    Raises:
        UsageError: the file is that of another model, or cannot be written.
    """
    whole = dict(found)
    if path.exists():
        known = auto.load(path)
        if known["model"]["weights"] != found["model"]["weights"]:
            raise UsageError(f"{path} is the calibration of another model; give another --file (the records are kept)")
        whole |= {name: {**known.get(name, {}), **found[name]} for name in ("curves", "measured")}
    text = json.dumps(whole, indent=1, ensure_ascii=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        new.write_text(text + "\n", "utf-8")
        new.replace(path)
    except OSError as error:
        raise UsageError(
            f"cannot write {path} ({error.strerror}); give another --file (the records are kept)"
        ) from None
