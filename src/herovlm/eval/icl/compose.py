"""What the model is shown and told: a red box around each person, and the words of the authors (arXiv 2407.11300)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from herovlm.errors import InputsError
from herovlm.eval.icl.data import Box

RED = (255, 0, 0)
REACH = 2  # pixels of the stroke on either side of the box's line: what OpenCV makes of a thickness of 3
HEAD = (
    "Given the list of emotion labels: {labels}, please analyse and choose which emotions are more suitable for "
    "describing how the person in the red box feels.\n"
)
QUESTION = "How does the person in the red box feel?"  # what methods score tiles by
PICTURE = "<image>"  # how the authors write a picture


@dataclass(frozen=True)
class Example:
    """What is said about a person that is shown."""

    rationale: str
    labels: str  # as the answer shall be written: "['Peace', 'Esteem']"


def red_box(image: Image.Image, box: Box) -> Image.Image:
    """Draw a box in red, in a copy: a stroke of five pixels with bevelled corners, ends of the box inclusive.

    Ends that are swapped are sorted; what lies outside the picture is not drawn.
    """
    left, right = sorted((box[0], box[2]))
    top, bottom = sorted((box[1], box[3]))
    drawn = image.copy()
    mask = Image.new("1", image.size)
    pen = ImageDraw.Draw(mask)
    for reach in range(REACH + 1):  # all points within REACH of the box, |dx| + |dy|
        wide = REACH - reach
        pen.rectangle((left - wide, top - reach, right + wide, bottom + reach), fill=1)
    inner = (left + REACH + 1, top + REACH + 1, right - REACH - 1, bottom - REACH - 1)
    if inner[0] <= inner[2] and inner[1] <= inner[3]:
        pen.rectangle(inner, fill=0)
    drawn.paste(RED, mask=mask)
    return drawn


def tidied(rationale: str) -> str:
    """Leave out lines that are blank."""
    return "\n".join(line for line in rationale.splitlines() if line.strip())


def parts(labels: Sequence[str], examples: Sequence[Example]) -> list[str | None]:
    """Write what the user says: texts, and None where a picture stands; examples first, who is asked about last.

    Without examples the picture comes first, and nothing stands behind the request.

    Args:
        labels: all there are.
        examples: who is shown, the most alike first.

    Raises:
        InputsError: a rationale holds the sign for a picture.
    """
    head = HEAD.format(labels=list(labels))
    if not examples:
        return [None, f"\n{head}"]
    found: list[str | None] = []
    text = head
    for number, example in enumerate(examples, 1):
        if PICTURE in example.rationale:
            raise InputsError(f"a rationale holds {PICTURE!r}, which stands for a picture: {example.rationale[:80]!r}")
        found += [f"{text} Example {number}: Image: ", None]
        text = f"\n Answer: {tidied(example.rationale)}\n The final answer is {example.labels}\n"
    return [*found, f"{text}Question: Image: ", None, "\n Answer:"]


def text_of(written: Sequence[str | None]) -> str:
    """Join parts to the text of the authors, in which a picture is "<image>"."""
    return "".join(PICTURE if part is None else part for part in written)
