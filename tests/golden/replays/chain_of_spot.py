"""Prompts, boxes and crops of the authors' Chain-of-Spot, and where reading a box robustly means something else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from herovlm.ops import region
from herovlm.prompt.template import chat
from herovlm.strategies import crops, turns

PLAIN = SimpleNamespace(image_token="<image>")  # a processor without a chat template


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Compare what is a box by both readings; outside the square the authors' is black, and ours ends."""
    width, height = case["image_wh"].tolist()
    picture = Image.fromarray(case["image"]) if "image" in case else Image.new("RGB", (width, height))
    fill, side = tuple(case["fill_rgb"].tolist()), int(case["padded_side"])
    wrong = {name for name, same in _prompts(case).items() if not same}
    whole = crops.square(picture, fill)
    placed = tuple(case["padded_offset_xy"].tolist())
    if whole.size != (side, side) or whole.crop((*placed, placed[0] + width, placed[1] + height)) != picture:
        wrong.add("padded_side")
    for number, text in enumerate(case["cleaned"].tolist()):
        box, theirs = region.read(text), case["rect"][number].tolist()
        if not case["ok"][number]:
            tolerated = "[0.1,0.2", "[0.1, 0.2, 0.5, 0.8].", "[0.5, 0.1,", "[0.2, 0.9", "[10,"  # read, or put in order
            if box is not None and not text.startswith(tolerated):
                wrong.add(f"ok_{number}")
            continue
        if not text.startswith(("[", "(")):
            continue  # the authors cut off a digit
        inside = tuple(min(max(end, 0), side) for end in theirs)
        if box is None or region.pixels(region.sound(box), side) != inside:
            wrong.add(f"rect_{number}")
        elif inside == tuple(theirs) and f"square_{number}" in case and 0 not in case["crop_wh"][number]:
            cut = crops.square(crops.cut(picture, region.sound(box), fill), fill)
            if not np.array_equal(np.asarray(cut), case[f"square_{number}"]):
                wrong.add(f"square_{number}")
    for rect, told in zip(case["train_rect"].tolist(), case["train_answer"].tolist(), strict=True):
        if region.text(tuple(end / side for end in rect)) != told:
            wrong.add("train_answer")
    return sorted(wrong)


def _prompts(case: Mapping[str, np.ndarray]) -> dict[str, bool]:
    """Compare the prompts behind the system's words; the authors close an answer with </s>."""
    question = str(case["question"])
    system = str(case["first_prompt"]).partition("USER:")[0]
    first = chat(PLAIN, turns.where(question, "what"))
    found = {"first_prompt": system + first == str(case["first_prompt"])}
    for number, said in enumerate(case["cleaned"].tolist()):
        if said:
            both = system + chat(PLAIN, turns.both(question, "what", said)).replace(f"{said} USER:", f"{said}</s>USER:")
            found[f"second_prompt_{number}"] = both == str(case["second_prompt"][number])
    return found
