"""A study: which finding is measured on which picture, and what goes into a record; resumable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from herovlm.eval import records
from herovlm.eval.answer import Reader
from herovlm.eval.run import Load, Run, commit, facts
from herovlm.eval.samples import Asked, Picture
from herovlm.study.measure import attention, foreground, probes, roles, tiles
from herovlm.study.measure.roles import Layers
from herovlm.study.summary.attention import suggestion

FINDINGS = {1: "tiles", 2: "attention", 3: "roles"}
FORMAT = 1  # of the records
EXAMPLES = 2  # pictures whose attention maps are stored
Step = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is studied; `findings` and the number of pictures may grow when a study goes on."""

    asked: Asked
    name: str  # of the model
    load: Load
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
    def steps(self) -> int:
        """How often `go` calls its `step`."""
        return len(self.findings) * len(self.asked.pictures) + (3 in self.findings)

    def go(self, folder: Path, step: Step = lambda _: None) -> None:
        """Measure what has not been measured yet, one finding and picture after the other.

        Args:
            folder: where the records are; a study that was ended at any moment goes on where it was.
            step: is told what comes next.

        Raises:
            UsageError: the folder holds something else, cannot be written, or another process writes there.
            HeroError: the model or a picture cannot be used.
        """
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        records.agree(folder, self.settings, commit=commit())
        with records.writing(folder, 0, 1) as writer:
            work = _Work(self, folder, writer, step)
            names = [FINDINGS[number] for number in self.findings]
            for some in (["attention"], ["tiles", "roles"]):  # attention says which blocks roles compares
                for number, picture in enumerate(self.asked.pictures):
                    for finding in (name for name in some if name in names):
                        step(f"{finding}: picture {number + 1:,} of {len(self.asked.pictures):,}")
                        work.measure(finding, picture, number)
            if "roles" in names:
                step("roles: probes")
                work.probes()


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
        records.agree(self.folder, {f"model {self.study.name}": facts(model)})
        task = self.study.asked.task
        return Reader(model, processor, task.prompt, task.max_new_tokens, self.study.batch)

    def measure(self, finding: str, picture: Picture, number: int) -> None:
        """Measure one finding on one picture, unless that was done."""
        group = self.group(finding, picture.name)
        if records.group_of(group) in self.writer.done:
            return
        image, samples = picture.read()
        if finding == "tiles":
            made = tiles.measure(self.reader, image, samples)
        elif finding == "roles":
            made = roles.measure(self.reader, image, samples, self.pairs)
        else:
            made = [self.attention(image, picture, number)]
        self.writer.write([{**group, **one} for one in made], {"done": len(made), **group})

    def attention(self, image: Any, picture: Picture, number: int) -> dict[str, Any]:
        """Measure what the tower looks at in a picture; the first ones are kept as maps too."""
        seen = attention.look(self.reader, image)
        scene = foreground.scene_of(self.study.asked, picture)
        shown = None if scene is None else foreground.shown(scene, seen.grid).foreground.to(seen.valid.device)
        found = attention.measure(seen, shown)
        if number < EXAMPLES:
            found["maps"] = {"grid": list(seen.grid.tiles), "side": seen.grid.side, "rows": attention.maps(seen)}
            found["maps"]["valid"] = seen.valid.int().tolist()
        return found

    @cached_property
    def pairs(self) -> dict[str, Layers]:
        """The blocks of both stages: HERO's own, and those that the measured attention suggests, where it was.

        What was suggested first stays, so that a study that grows compares the same blocks throughout.
        """
        known = records.meta(self.folder).get("suggested")
        if known is None:
            found = suggestion([line for line in records.read(self.folder)[0] if line["task"] == "attention"])
            known = {} if found is None else {"early": list(found.low), "late": list(found.high)}
            if known:
                records.agree(self.folder, {"suggested": known})
        stages: Layers = {stage: tuple(blocks) for stage, blocks in known.items()}
        return {"default": roles.DEFAULT, **({"suggested": stages} if stages else {})}

    def probes(self) -> None:
        """Probe what tokens encode, on all pictures together, where it is known what stands in them."""
        group = self.group("probes", f"first {len(self.study.asked.pictures)}")
        if records.group_of(group) in self.writer.done or not foreground.known(self.study.asked):
            return
        looked = []
        for picture in self.study.asked.pictures:
            scene = foreground.scene_of(self.study.asked, picture)
            if scene is not None:
                seen = attention.look(self.reader, scene.image)
                looked.append((seen, foreground.shown(scene, seen.grid)))
        made = [{**group, "pair": pair, **probes.measure(looked, of)} for pair, of in self.pairs.items()]
        self.writer.write(made, {"done": len(made), **group})

    def group(self, finding: str, picture: str) -> dict[str, Any]:
        """Name what a record is about; the task is the finding."""
        return {"model": self.study.name, "task": finding, "split": self.study.asked.split, "picture": picture}
