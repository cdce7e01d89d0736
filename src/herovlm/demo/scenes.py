"""Notice boards, price lists and town maps with questions and answers: the pictures that the demo model reads.

A scene is a pure function of its seed.  Its labels are 10 pixels high: legible in the tiles, not in the thumbnail.
Items stand on a raster of `CELL` pixels, so that none straddles the border of a tile of `4 * CELL` pixels.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from herovlm.demo import draw

CELL = 48  # pixels; one item a cell
PATCH = CELL // 2
Kind = Literal["board", "prices", "map"]
KINDS: tuple[Kind, ...] = ("board", "prices", "map")
SIZES = {  # width, height of pictures by local tile grid (rows, columns), all shown at scale 1
    (2, 2): ((384, 384), (384, 288), (288, 384)),
    (1, 2): ((384, 192), (288, 192)),
    (2, 1): ((192, 384), (192, 288)),
    (1, 3): ((576, 192), (480, 192)),
    (3, 1): ((192, 576), (192, 480)),
}
SPLITS = {"held-out": range(1000), "development": range(10_000, 11_000), "train": range(1_000_000, 2_000_000)}
QuestionKind = Literal["fine", "reverse", "existence", "counting", "spatial"]
QUESTION_KINDS: tuple[QuestionKind, ...] = ("fine", "reverse", "existence", "counting", "spatial")
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the picture


@dataclass(frozen=True)
class Item:
    """A coloured shape with its label."""

    colour: str
    shape: str
    text: str  # "472" or "4.72"
    cell: tuple[int, int]  # column, row
    icon_box: Box
    label_box: Box

    @property
    def name(self) -> str:
        """How a person calls it: "red star"."""
        return f"{self.colour} {self.shape}"


def around(item: Item, size: tuple[int, int], side: int = 4 * CELL) -> Box:
    """Return the square of `side` pixels around an item, on whole cells and inside the picture of `size`."""
    spans = []
    for place, length in zip(item.cell, size, strict=True):
        low = (place * CELL - (side - CELL) // 2) // CELL * CELL
        spans.append(min(max(low, 0), length - side))
    return spans[0], spans[1], spans[0] + side, spans[1] + side


@dataclass(frozen=True)
class Question:
    """A question about a scene and its one right answer."""

    kind: QuestionKind
    text: str
    answer: str


@dataclass(frozen=True)
class Scene:
    """A picture, what is in it, and what can be asked about it."""

    seed: int
    kind: Kind
    image: Image.Image
    items: tuple[Item, ...]
    questions: tuple[Question, ...]  # two fine, then one each of the other kinds


def make(seed: int, kind: Kind | None = None, size: tuple[int, int] | None = None, most: int = 10) -> Scene:
    """Draw the scene of `seed` with 4 to `most` items.

    `kind` and `size` (width, height in multiples of `CELL`) override what the seed says.
    """
    rng = random.Random(seed)
    drawn_kind = rng.choice(KINDS)
    grid = rng.choices(list(SIZES), weights=(4, 1.5, 1.5, 1.5, 1.5))[0]
    drawn_size = rng.choice(SIZES[grid])
    kind, size = kind or drawn_kind, size or drawn_size
    image = draw.BACKGROUNDS[kind](size, rng)
    cells = _prices_cells(rng, size, most) if kind == "prices" else _free_cells(rng, size, most)
    names = _names(rng, len(cells))
    numbers = rng.sample(range(100, 1000), len(cells))
    half = rng.randrange(2)  # the patch column (or row) of each cell that the items stand in
    items = tuple(
        _place(rng, image, kind, half, cell, name, number)
        for cell, name, number in zip(cells, names, numbers, strict=True)
    )
    middle = (size[0] / 2, size[1] / 2)
    return Scene(seed, kind, image, items, tuple(ask(rng, kind, items, middle)))


def _free_cells(rng: random.Random, size: tuple[int, int], most: int) -> list[tuple[int, int]]:
    """Scatter 4 to `most` items."""
    cells = [(x, y) for x in range(size[0] // CELL) for y in range(size[1] // CELL)]
    return rng.sample(cells, rng.randint(4, min(most, len(cells))))


def _prices_cells(rng: random.Random, size: tuple[int, int], most: int) -> list[tuple[int, int]]:
    """Fill 2 or 3 columns from a common first row downwards."""
    columns, rows = size[0] // CELL, size[1] // CELL
    used = sorted(rng.sample(range(columns), rng.randint(2, 3)))
    first = rng.randint(0, rows // 2)
    cells = [(x, y) for x in used for y in range(first, rows)]
    return cells[:most] if len(cells) >= 4 else _free_cells(rng, size, most)


def _names(rng: random.Random, count: int) -> list[tuple[str, str]]:
    """Draw (colour, shape) pairs; one of them is often repeated, so that counting is worth asking."""
    pairs = [(colour, shape) for colour in draw.COLOURS for shape in draw.SHAPES]
    copies = rng.choices((1, 2, 3), weights=(1, 1, 1))[0]
    copies = min(copies, count - 2)
    distinct = rng.sample(pairs, count - copies + 1)
    names = [distinct[0]] * copies + distinct[1:]
    rng.shuffle(names)
    return names


def _place(
    rng: random.Random,
    image: Image.Image,
    kind: Kind,
    half: int,
    cell: tuple[int, int],
    name: tuple[str, str],
    number: int,
) -> Item:
    """Draw one item into its cell: label under the shape, or beside it in a price list."""
    x, y = cell[0] * CELL + rng.randint(-1, 1), cell[1] * CELL + rng.randint(-1, 1)
    text = f"{number / 100:.2f}" if kind == "prices" else str(number)
    sprite, plate = draw.icon(name[1], name[0], 20), draw.label(text)
    along, across = PATCH // 2, PATCH // 2 + half * PATCH
    icon_at, label_at = (across, along), (across, along + PATCH)
    if kind == "prices":
        icon_at, label_at = icon_at[::-1], label_at[::-1]
    if kind == "board":
        draw.card(image, (x + across - 15, y + 1, x + across + 15, y + CELL - 4), rng)
    boxes = []
    for art, (cx, cy) in ((sprite, icon_at), (plate, label_at)):
        left, top = x + cx - art.width // 2, y + cy - art.height // 2
        image.paste(art, (left, top), art)
        boxes.append((left, top, left + art.width, top + art.height))
    return Item(*name, text=text, cell=cell, icon_box=boxes[0], label_box=boxes[1])


def ask(
    rng: random.Random, kind: Kind, items: tuple[Item, ...], middle: tuple[float, float], fine: int = 2
) -> list[Question]:
    """Ask `fine` fine-text questions and one of each other kind, all with exactly one right answer.

    `middle` is the point (x, y) in pixels that the spatial question is about.
    """
    counts: dict[str, int] = {}
    for item in items:
        counts[item.name] = counts.get(item.name, 0) + 1
    unique = [item for item in items if counts[item.name] == 1]
    questions = [_fine(kind, item) for item in rng.sample(unique, min(fine, len(unique)))]
    questions.append(_reverse(kind, rng.choice(items)))
    questions.append(_existence(rng, items))
    most = max(counts, key=lambda name: counts[name])
    name = most if rng.random() < 0.7 else rng.choice(list(counts))
    questions.append(
        Question("counting", f"How many {name}s are there?".replace("crosss", "crosses"), str(counts[name]))
    )
    questions.append(_spatial(rng, unique, middle))
    return questions


def _fine(kind: Kind, item: Item) -> Question:
    text = f"How much is the {item.name}?" if kind == "prices" else f"What number is on the {item.name}?"
    return Question("fine", text, item.text)


def _reverse(kind: Kind, item: Item) -> Question:
    text = f"Which shape costs {item.text}?" if kind == "prices" else f"Which shape has number {item.text}?"
    return Question("reverse", text, item.name)


def _existence(rng: random.Random, items: tuple[Item, ...]) -> Question:
    """Half yes; a no asks for a shape and a colour that both may occur, but not together."""
    names = {item.name for item in items}
    if rng.random() < 0.5:
        return Question("existence", f"Is there a {rng.choice(items).name}?", "yes")
    while True:
        name = f"{rng.choice(list(draw.COLOURS))} {rng.choice(items).shape}"
        if name not in names:
            return Question("existence", f"Is there a {name}?", "no")


def _spatial(rng: random.Random, unique: list[Item], middle: tuple[float, float]) -> Question:
    """Ask on which side of the middle an item stands; cells end there, so that none stands on it."""
    item, axis = rng.choice(unique), rng.randrange(2)
    left, top, right, bottom = item.icon_box
    sides = (("left", "right"), ("above", "below"))[axis]
    before = ((left + right) / 2, (top + bottom) / 2)[axis] < middle[axis]
    text = f"Is the {item.name} {sides[0]} or {sides[1]}{' of' if axis == 0 else ''} the middle?"
    return Question("spatial", text, sides[0] if before else sides[1])
