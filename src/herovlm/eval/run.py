"""Methods x keeps x tasks x models: who asks what, in which order, and what goes into a record."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
import transformers

from herovlm import __version__, modules, registry
from herovlm.budget import told
from herovlm.clock import now
from herovlm.errors import HeroError, ModelError, SetupError, UsageError, reason
from herovlm.eval import metrics, records
from herovlm.eval.answer import Answer, Reader
from herovlm.eval.plan import Config
from herovlm.eval.samples import Asked, Picture, Sample, part_of
from herovlm.strategy import Decoding

Load = Callable[[], tuple[Any, Any]]  # a model and its processor


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is asked of whom; `settings` must be the same whenever a run goes on."""

    tasks: Sequence[Asked]
    configs: Sequence[Config]
    models: Mapping[str, Load]
    limit: int | None = None
    seed: int | None = None
    max_new_tokens: int | None = None  # instead of the tasks' own
    batch: int = 16_384  # most positions in one pass of the language model
    threads: int | None = None  # of the CPU; None leaves it to torch

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            UsageError: two tasks have the same.
        """
        names = [asked.task.name for asked in self.tasks]
        if len(set(names)) < len(names):
            raise UsageError(f"two tasks of one name ({', '.join(names)}); run them into different folders")

    @property
    def settings(self) -> dict[str, Any]:
        """All that a result depends on, and the machine."""
        return {
            "settings": {
                "tasks": [self._told(asked) for asked in self.tasks],
                "configs": [str(one) for one in self.configs],
                "models": list(self.models),
                "limit": self.limit,
                "seed": self.seed,
            },
            **machine(self.threads),
        }

    def _told(self, asked: Asked) -> dict[str, Any]:
        task = asked.task
        return {
            "name": task.name,
            "version": task.version,
            "split": asked.split,
            "source": task.source,
            "data": asked.data,
            "metric": task.metric,
            "prompt": task.prompt,
            "max_new_tokens": self.max_new_tokens or task.max_new_tokens,
            "pictures": len(asked.pictures),
        }

    def go(self, folder: Path, part: int = 0, parts: int = 1, step: Callable[[str], None] = lambda _: None) -> None:
        """Ask what has not been asked yet, one picture after the other.

        Args:
            folder: where the records are; a run that was ended at any moment goes on where it was.
            part: which share of the pictures is this process's, counted from 0.
            parts: how many processes fill the folder.
            step: is told what comes next; called `self.steps(part, parts)` times.

        Raises:
            UsageError: the folder holds another run, cannot be written, or another process writes this part.
            SetupError, ModelError: something is missing on this machine, or a model cannot be used at all.
        """
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        records.agree(folder, self.settings, commit=commit())
        with records.writing(folder, part, parts) as writer:
            self._check_pictures(folder, writer)
            errors: list[HeroError] = []
            for name in self.models:
                try:
                    self._ask(name, folder, (part, parts), writer, step)
                except (ModelError, SetupError) as error:  # of this model: the others are asked all the same
                    errors.append(error)
        if errors:
            raise errors[0]

    def _ask(
        self, name: str, folder: Path, share: tuple[int, int], writer: records.Writer, step: Callable[[str], None]
    ) -> None:
        """Ask one model what it has not been asked yet; it is loaded when there is something to ask."""
        ready = None
        for asked in self.tasks:
            own = part_of(asked.pictures, *share)
            for number, picture in enumerate(own, 1):
                step(f"{name}: {asked.task.name} {asked.split}, picture {number:,} of {len(own):,}")
                group = {"task": asked.task.name, "version": asked.task.version, "split": asked.split}
                group = {"model": name, **group, "picture": picture.name}
                if records.group_of(group) in writer.done:
                    continue
                if ready is None:
                    ready = self.models[name]()
                    records.agree(folder, {f"model {name}": facts(ready[0])})
                writer.write(*self._asked(*ready, asked, picture, group))

    def steps(self, part: int, parts: int) -> int:
        """Count the pictures of a part."""
        return len(self.models) * sum(len(part_of(asked.pictures, part, parts)) for asked in self.tasks)

    def _check_pictures(self, folder: Path, writer: records.Writer) -> None:
        """Check that pictures which were asked about are what they were.

        Raises:
            UsageError: one of them is another by now.
        """
        for asked in self.tasks:
            for name, picture in product(self.models, asked.pictures):
                group = {"model": name, "task": asked.task.name, "split": asked.split, "picture": picture.name}
                known = writer.done.get(records.group_of(group), {}).get("file")
                if known is not None and known != picture.digest():
                    raise UsageError(
                        f"{picture.path} is not the picture that {folder} has answers about; put that back, or give "
                        "another --out to ask about all pictures as they are now"
                    )

    def _asked(
        self, model: Any, processor: Any, asked: Asked, picture: Picture, group: dict[str, Any]
    ) -> tuple[list[records.Record], records.Record]:
        """Ask all about one picture: a record for every answer, and the line that closes them.

        A picture that cannot be asked about, whatever the method, has a line that says why, and no record.
        """
        start = now(model.device)
        tokens = self.max_new_tokens or asked.task.max_new_tokens
        reader = Reader(model, processor, asked.task.prompt, tokens, self.batch)
        try:
            image, samples = picture.read()
            found = reader.answer(image, [sample.question for sample in samples], self.configs)
        except (SetupError, ModelError):
            raise
        except Exception as error:
            return [], {"done": 0, **group, "file": picture.digest(), "unusable": reason(error)}
        metric = metrics.find(asked.task.metric)
        own = "compact" if registry.family(model).positions[0] == "compact" else "own"  # "original" is who asked for it
        made = [self._record(group, samples[one.question], one, metric, own) for one in found.answers]
        end = {
            "done": len(made),
            **group,
            "file": picture.digest(),
            "questions": len(samples),
            "refused": {str(config): why for config, why in found.refused.items()},
            "failed": {str(config): why for config, why in found.failed.items()},
            "seconds": {"vision": round(found.vision, 6), "all": round(now(model.device) - start, 6)},
        }
        return made, end

    def _record(
        self, group: dict[str, Any], sample: Sample, one: Answer, metric: metrics.Metric, own: str
    ) -> records.Record:
        return {
            **group,
            "sample": sample.name,
            "kind": sample.kind,
            "method": str(one.config.method),
            "keep": told(one.config.budget),
            "positions": "original" if one.config.original else own,
            "answer": one.text,
            "wanted": list(sample.answers),
            "score": round(metric.score(one.text, sample.answers), 6),
            "kept": one.kept,
            "of": one.of,
            "seconds": {"select": round(one.select, 6), "generate": round(one.generate, 6)},
            "seed": self.seed,
            **({"facts": dict(one.facts)} if isinstance(one.config.request.strategy, Decoding) else {}),
        }


def facts(model: Any) -> dict[str, Any]:
    """What numbers depend on: class, size, dtype, attention and device of a model."""
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else "CPU"
    attached = [one.told for one in modules.on(model)]
    return {
        **({"modules": attached} if attached else {}),
        "class": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "attention": str(model.config._attn_implementation),
        "device": device,
    }


def machine(threads: int | None = None) -> dict[str, Any]:
    """Versions, and the machine with its CPU threads; None is what torch has."""
    return {
        "versions": {
            "herovlm": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "machine": f"{platform.machine()}, threads: {threads or torch.get_num_threads()}",
    }


def commit() -> str:
    """Return which commit of ours this is, where it runs from a checkout; "" elsewhere."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
