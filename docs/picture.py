"""Draw the picture of README.md: the demo model is asked about a board; what HERO keeps is lit, and why beside it."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

import herovlm
from herovlm.demo import load

HERE = Path(__file__).parent
QUESTION = "What number is on the red square?"
VIEWS = ("kept patches", "weight", "score")


def main() -> None:
    """Write docs/kept.png and say what the model answered."""
    model, processor = load()
    image = Image.open(HERE / "board.png").convert("RGB")
    inputs = processor(images=image, text=f"USER: <image>\n{QUESTION} ASSISTANT:", return_tensors="pt")
    short = herovlm.drop(model, inputs, method="hero", keep=0.2, processor=processor)
    told = model.generate(**short, max_new_tokens=16)[:, short["input_ids"].shape[1] :]
    herovlm.show(short, image).save(HERE / "kept.png", width=9, views=VIEWS, dpi=160)
    kept, of = short.kept[0].positions, short.seen[0].positions
    sys.stdout.write(
        f"{QUESTION} {processor.decode(told[0], skip_special_tokens=True).strip()} ({kept} of {of} positions)\n"
    )


if __name__ == "__main__":
    main()
