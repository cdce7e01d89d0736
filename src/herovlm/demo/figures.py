"""Drawn persons whose face, posture and surroundings tell a feeling: pictures for few-shot recognition in context.

A figure is a pure function of its seed.  Two or three of its cues tell the feeling, the others tell nothing; colours,
places, sizes and the shape of the picture tell nothing either.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from herovlm.demo import people, places

FEELINGS = ("Surprise", "Excitement", "Happiness", "Peace", "Disgust", "Anger", "Fear", "Sadness")
SPLITS = {"held-out": range(1000), "pool": range(10_000, 10_200), "train": range(1_000_000, 2_000_000)}
SIZES = ((384, 288), (288, 384), (384, 384))  # width, height in pixels
CUES = ("face", "posture", "surroundings")
FINE = 2  # drawn so many times larger, for smooth lines
TOLD = {  # what each cue of each feeling looks like, for the rationale
    "Surprise": ("the mouth is a round O", "the hands are at the cheeks", "a gift springs open"),
    "Excitement": ("the mouth laughs wide", "both arms are thrown up", "there is a party"),
    "Happiness": ("the mouth smiles", "the arms are spread", "the sun shines on flowers"),
    "Peace": ("the eyes are closed", "the person sits cross-legged", "a lake lies still"),
    "Disgust": ("the tongue is out", "an arm pushes away", "a bin runs over"),
    "Anger": ("the brows are drawn down", "the fists are on the hips", "a pot is broken"),
    "Fear": ("the face is pale", "the hands are at the mouth", "eyes look out of the dark"),
    "Sadness": ("there is a tear", "the head is bowed", "it rains"),
}
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the picture


@dataclass(frozen=True)
class Figure:
    """A picture of a person, where the person is, what the person feels, and what tells it."""

    seed: int
    image: Image.Image
    box: Box
    feeling: str
    cues: tuple[str, ...]  # those of `CUES` that tell the feeling
    rationale: str


def make(seed: int) -> Figure:
    """Draw the figure of `seed`."""
    rng = random.Random(f"figure {seed}")
    feeling = rng.choice(FEELINGS)
    telling = rng.sample(CUES, rng.choice((2, 3)))
    cues = tuple(cue for cue in CUES if cue in telling)
    face, posture, place = (feeling if cue in cues else "" for cue in CUES)
    width, height = (FINE * side for side in rng.choice(SIZES))
    image = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(image)
    ground = round(height * rng.uniform(0.62, 0.72))
    places.PLACES[place](pen, rng, width, height, ground)
    tall = height * rng.uniform(0.5, 0.62)
    foot = width * rng.uniform(0.32, 0.68), ground + height * rng.uniform(0.12, 0.2)
    skin, shirt, trousers = rng.choice(people.SKINS), *(_colour(rng) for _ in range(2))
    around_it = people.person(pen, foot, tall, face, posture, (skin, shirt, trousers))
    small = image.resize((width // FINE, height // FINE), Image.Resampling.LANCZOS)
    return Figure(seed, small, _box(around_it, small.size), feeling, cues, _rationale(feeling, cues))


def _colour(rng: random.Random) -> people.Colour:
    return rng.randint(40, 220), rng.randint(40, 220), rng.randint(40, 220)


def _box(around: tuple[float, float, float, float], size: tuple[int, int]) -> Box:
    """Turn what was drawn large into pixels of the picture."""
    left, top, right, bottom = (side / FINE for side in around)
    return max(0, int(left)), max(0, int(top)), min(size[0], int(right) + 1), min(size[1], int(bottom) + 1)


def _rationale(feeling: str, cues: tuple[str, ...]) -> str:
    """Write down what is seen."""
    seen = [TOLD[feeling][CUES.index(cue)] for cue in cues]
    told = f"{', '.join(seen[:-1])} and {seen[-1]}."
    return told[0].upper() + told[1:]
