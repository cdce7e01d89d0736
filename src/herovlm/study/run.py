"""A study: which finding is measured on which picture, and what goes into a record; resumable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from herovlm import registry
from herovlm.errors import ModelError, SetupError, reason
from herovlm.eval import records
from herovlm.eval.answer import Reader
from herovlm.eval.run import Load, Run, commit, facts
from herovlm.eval.samples import Asked, Picture
from herovlm.study.measure import attention, foreground, probes, roles, tiles
from herovlm.study.measure.roles import Layers
from herovlm.study.summary.attention import suggestion

FINDINGS = {1: "tiles", 2: "attention", 3: "roles"}
FORMAT = 1  # of the records
TRUSTED = 0.5  # confidence from which on roles compares the suggested blocks too
PROBED = 4  # times as many pictures are probed: that needs the vision tower alone
Step = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is studied; `findings` and the number of pictures may grow when a study goes on."""

    asked: Asked
    name: str  # of the model
    load: Load
    limit: int | None = None  # pictures; None is all
    findings: Sequence[int] = tuple(FINDINGS)
    batch: int = 2_048  # most positions in one pass of the language model: small ones stay in a cache
    threads: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """All that a record depends on, and the machine."""
        run = Run(tasks=[self.asked], configs=(), models={self.name: self.load}, threads=self.threads).settings
        (task,) = run["settings"]["tasks"]
        told = {name: value for name, value in task.items() if name != "pictures"}
        return {**run, "settings": {"tasks": [told], "models": [self.name]}, "study": FORMAT}

    @property
    def pictures(self) -> Sequence[Picture]:
        """Those that are measured."""
        return self.asked.pictures[: self.limit]

    @property
    def steps(self) -> int:
        """How often `go` calls its `step`."""
        return len(self.findings) * len(self.pictures) + (3 in self.findings)

    def go(self, folder: Path, step: Step = lambda _: None) -> None:
        """Measure what has not been measured yet, one finding and picture after the other.

        Args:
            folder: where the records are; a study that was ended at any moment goes on where it was.
            step: is told what comes next.

        Raises:
            UsageError: the folder holds something else, cannot be written, or another process writes there.
            SetupError, ModelError: something is missing on this machine, or the model cannot be used at all.
        """
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        records.agree(folder, self.settings, commit=commit())
        with records.writing(folder, 0, 1) as writer:
            work = _Work(self, folder, writer, step)
            names = [FINDINGS[number] for number in self.findings]
            for some in (["attention"], ["tiles", "roles"]):  # attention says which blocks roles compares
                for number, picture in enumerate(self.pictures, 1):
                    for finding in (name for name in some if name in names):
                        step(f"{finding}: picture {number:,} of {len(self.pictures):,}")
                        work.measure(finding, picture)
            if "roles" in names:
                step("roles: probes")
                work.probes()


def check(model: Any, findings: Sequence[int]) -> None:
    """Check that a model has what the findings are about: a CLS token, a thumbnail, and a text space for the question.

    Raises:
        ModelError: it has not.
    """
    family, needed = registry.family(model), {"attention"} if {*findings} == {2} else {"attention", "cls", "relevance"}
    lacks = sorted(needed - family.offers(model))
    lacks += ["the thumbnail"] if not family.overviews else []
    if lacks:
        raise ModelError(
            "the findings are about CLS rows ('attention'), CLS states ('cls'), the question in the tower's text space "
            f"('relevance') and thumbnails, and {family.name} has no {', no '.join(lacks)}; 'herovlm eval' compares "
            "methods on it" + ("; --findings 2 can be measured" if lacks == ["cls"] or lacks == ["relevance"] else "")
        )


@dataclass
class _Work:
    """One process at work."""

    study: Study
    folder: Path
    writer: records.Writer
    step: Step

    @cached_property
    def reader(self) -> Reader:
        """The model, loaded when it is needed."""
        model, processor = self.study.load()
        check(model, self.study.findings)
        records.agree(self.folder, {f"model {self.study.name}": facts(model)})
        task = self.study.asked.task
        return Reader(model, processor, task.prompt, task.max_new_tokens, self.study.batch)

    def measure(self, finding: str, picture: Picture) -> None:
        """Measure one finding on one picture, unless that was done."""
        group = self.group(finding, picture.name)
        if records.group_of(group) in self.writer.done:
            return
        self.close(group, lambda: self.measured(finding, picture))

    def measured(self, finding: str, picture: Picture) -> Sequence[Mapping[str, Any]]:
        """Measure one finding on one picture."""
        image, samples = picture.read()
        if finding == "tiles":
            return tiles.measure(self.reader, image, samples)
        if finding == "roles":
            return roles.measure(self.reader, image, samples, self.pairs)
        return [self.attention(image, picture)]

    def close(self, group: Mapping[str, Any], measure: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        """Write what was measured and the line that closes it; where something went wrong, that says why.

        Raises:
            SetupError, ModelError: something is missing on this machine, or the model cannot be used at all.
        """
        made, more = [], {}
        try:
            made = [{**group, **one} for one in measure()]
        except (SetupError, ModelError):
            raise
        except Exception as error:
            more = {"unusable": reason(error)}
        self.writer.write(made, {"done": len(made), **group, **more})

    def attention(self, image: Any, picture: Picture) -> dict[str, Any]:
        """Measure what the tower looks at in a picture; the first of each grid of tiles is kept as maps too."""
        seen = attention.look(self.reader, image)
        shown = foreground.of(self.study.asked, picture, seen.grid)
        found = attention.measure(seen, None if shown is None else shown.foreground.to(seen.valid.device))
        if seen.grid.tiles not in self.grids:
            self.grids.add(seen.grid.tiles)
            about = {"grid": list(seen.grid.tiles), "side": seen.grid.side, "valid": seen.valid.int().tolist()}
            found["maps"] = {**about, "rows": attention.maps(seen)}
        return found

    @cached_property
    def grids(self) -> set[tuple[int, int]]:
        """Grids of tiles of which there are maps already."""
        lines = [line for line in records.read(self.folder)[0] if "maps" in line]
        return {(line["maps"]["grid"][0], line["maps"]["grid"][1]) for line in lines}

    @cached_property
    def pairs(self) -> dict[str, Layers]:
        """The blocks of both stages: HERO's own, and those that attention suggests, where that can be trusted.

        What was suggested first stays, so that a study that grows compares the same blocks throughout.
        """
        known = records.meta(self.folder).get("suggested")
        if known is None:
            found = suggestion([line for line in records.read(self.folder)[0] if line["task"] == "attention"])
            good = found is not None and found.confidence >= TRUSTED
            known = {"early": list(found.low), "late": list(found.high)} if found is not None and good else {}
            records.agree(self.folder, {"suggested": known})
        stages: Layers = {stage: tuple(blocks) for stage, blocks in known.items()}
        return {"default": roles.DEFAULT, **({"suggested": stages} if stages else {})}

    def probes(self) -> None:
        """Probe what tokens encode, on all pictures together, where it is known what stands in them."""
        pictures = self.study.asked.pictures[: PROBED * len(self.study.pictures)]
        group = self.group("probes", f"first {len(pictures)}")
        if records.group_of(group) in self.writer.done or not foreground.known(self.study.asked):
            return
        self.close(group, lambda: self.probed(pictures))

    def probed(self, pictures: Sequence[Picture]) -> list[dict[str, Any]]:
        """Probe what tokens of some pictures encode; of pictures without scenes nothing."""
        looked = []
        for picture in pictures:
            seen = attention.look(self.reader, picture.read()[0])
            shown = foreground.of(self.study.asked, picture, seen.grid)
            if shown is None:
                return []
            looked.append((seen, shown))
        return [{"pair": pair, **probes.measure(looked, of)} for pair, of in self.pairs.items()]

    def group(self, finding: str, picture: str) -> dict[str, Any]:
        """Name what a record is about; the task is the finding."""
        return {"model": self.study.name, "task": finding, "split": self.study.asked.split, "picture": picture}
