"""Finding 3: what answers cost when the tokens of thumbnail and local tiles are chosen by early or by late blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from herovlm.budget import Share
from herovlm.eval.answer import Reader
from herovlm.eval.likelihood import judge
from herovlm.eval.plan import FULL, Config
from herovlm.eval.samples import Sample
from herovlm.methods.base import Layer
from herovlm.methods.full import Full
from herovlm.methods.hero import Hero
from herovlm.study.measure.look import wanted

if TYPE_CHECKING:
    from PIL import Image

KEEPS = (0.2, 0.1)
STAGES = ("early", "late")
DIGITS = 5
Layers = Mapping[str, tuple[Layer, ...]]  # stage -> blocks
DEFAULT: Layers = {"early": Hero().low_layers, "late": Hero().high_layers}


def name_of(thumbnail: str, local: str, keep: float) -> str:
    """Name one way to choose: "late/early@0.2" is the paper's, late for the thumbnail and early for local tiles."""
    return f"{thumbnail}/{local}@{keep}"


def configs(layers: Layers) -> dict[str, Config]:
    """All four ways to choose at every keep: name -> configuration."""
    return {
        name_of(thumbnail, local, keep): Config(
            Hero(high_layers=layers[thumbnail], low_layers=layers[local]), Share(keep)
        )
        for keep in KEEPS
        for thumbnail, local in product(STAGES, STAGES)
    }


def measure(
    reader: Reader, image: Image.Image, samples: Sequence[Sample], pairs: Mapping[str, Layers]
) -> list[dict[str, Any]]:
    """Judge the right answer to every question under all ways to choose: one record a question.

    Args:
        reader: the model.
        image: the picture.
        samples: what is asked about it.
        pairs: name -> the blocks of both stages.

    Raises:
        HeroError: the model or the picture cannot be used.
    """
    named = {FULL: Config(Full(), Share(1.0))}
    for pair, layers in pairs.items():
        named |= {f"{pair}:{name}": config for name, config in configs(layers).items()}
    questions, answers = [sample.question for sample in samples], [wanted(sample) for sample in samples]
    judged = judge(reader, image, questions, answers, list(dict.fromkeys(named.values())))
    found = {(one.config, one.question): [round(one.log, DIGITS), one.right] for one in judged}
    return [
        {
            "sample": sample.name,
            "kind": sample.kind,
            "judged": {name: found[config, n] for name, config in named.items() if (config, n) in found},
        }
        for n, sample in enumerate(samples)
    ]
