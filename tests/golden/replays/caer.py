"""Retrieval, red boxes and words of the authors' CAER: their whole scripts on made-up pictures."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from herovlm.eval.icl import compose, data, retrieve, run

Case = Mapping[str, np.ndarray]


def differences(case: Case, path: Path) -> list[str]:
    """Compare a case of retrieval, or one of a prompt."""
    return retrieval(case) if str(case["kind"]) == "retrieval" else prompt(case)


def retrieval(case: Case) -> list[str]:
    asked, pool = (
        retrieve.Views(*(torch.from_numpy(case[f"{who}_{what}"]) for what in ("body", "context")))
        for who in ("query", "pool")
    )
    found: dict[str, object] = {
        "ranking": retrieve.rank(asked, pool).numpy(),
        "boxes_int": np.array([data.box_of(box) for box in case["boxes"].tolist()]),
    }
    for name in case:
        if name.startswith("image_"):
            number = int(name.removeprefix("image_"))
            image, box = Image.fromarray(case[name]), data.box_of(case["boxes"][number].tolist())
            found[f"body_{number}"] = np.asarray(retrieve.body(image, box))
            found[f"context_{number}"] = np.asarray(retrieve.context(image, box))
    return [name for name, value in found.items() if not np.array_equal(value, case[name])]


def prompt(case: Case) -> list[str]:
    shots = int(case["n_shot"])
    known = ast.literal_eval(str(case["user_text"]).split("labels: ")[1].split(", please")[0])
    shown = [
        compose.Example(looked_up(case, int(case["demo_image"][i]), case["demo_boxes"][i]), str(case["demo_labels"][i]))
        for i in range(shots)
    ]
    text = compose.text_of(compose.parts(known, shown))
    boxes = [*case["demo_boxes"][:shots].tolist(), case["query_box"].tolist()]
    found: dict[str, object] = {
        "user_text": text,
        "prompt": str(case["prompt"]).split("user<|end_header_id|>\n\n")[0]
        + f"user<|end_header_id|>\n\n{text}<|end_of_text|><|start_header_id|>system<|end_header_id|>\n\n",
        "generation": str(sorted({**run.AUTHORS, "use_cache": True}.items())),
    }
    for i, box in enumerate(boxes):
        found[f"boxed_{i}"] = np.asarray(compose.red_box(Image.fromarray(case[f"image_{i}"]), tuple(map(int, box))))
    return [name for name, value in found.items() if not np.array_equal(value, case[name])] + [
        "labels" for _ in [0] if tuple(known) != tuple(data.LABELS["emotic"].split())
    ]


def looked_up(case: Case, image: int, box: np.ndarray) -> str:
    """The rationale of a person in the authors' table: the last row with the picture and the box, else its first."""
    rows = [i for i, one in enumerate(case["analysis_image"]) if one == image]
    same = [i for i in rows if np.array_equal(case["analysis_boxes"][i], box)]
    return str(case["analysis_text"][same[-1] if same else rows[0]])
