"""A tiny benchmark in lmms-eval's own form: scenes of the demo model in a folder, and what is asked of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from herovlm.demo import scenes

YAML = """\
task: boards
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.pictures
doc_to_text: !function utils.question
doc_to_target: answer
process_results: !function utils.score
generation_kwargs:
  max_new_tokens: 12
  temperature: 0
  top_p: 1.0
  num_beams: 1
  until: ["ASSISTANT:"]
  image_aspect_ratio: original
metric_list:
  - metric: accuracy
    aggregation: mean
    higher_is_better: true
"""
UTILS = """\
from PIL import Image

def pictures(doc):
    return [Image.open(path) for path in doc["pictures"]]

def question(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]

def score(doc, results):
    return {"accuracy": float(results[0].lower() == doc["answer"])}
"""
NAME = "boards"


@dataclass(frozen=True)
class Doc:
    """One question; a picture is a file."""

    pictures: list[str]
    question: str
    answer: str


def write(folder: Path, seeds: tuple[int, ...] = (0, 1, 5)) -> list[Doc]:
    """Write pictures, questions, and the task; the last question shows two pictures of different sizes."""
    folder.mkdir()
    docs, files = [], []
    for seed in seeds:
        scene = scenes.make(seed)
        files.append(str(folder / f"{seed}.png"))
        scene.image.save(files[-1])
        docs += [Doc([files[-1]], asked.text, asked.answer) for asked in scene.questions]
    docs.append(Doc(files[:2], "Which shape has number 123?", "none"))
    data = folder / "docs.jsonl"
    data.write_text("\n".join(json.dumps(vars(doc)) for doc in docs), "utf-8")
    (folder / "boards.yaml").write_text(YAML.format(data=data), "utf-8")
    (folder / "utils.py").write_text(UTILS, "utf-8")
    return docs
