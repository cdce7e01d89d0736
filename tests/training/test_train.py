"""The one command of the training: it resumes, and what it writes is an ordinary model."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import AutoProcessor, CLIPModel, LlavaNextForConditionalGeneration
from tree import WEIGHTS, need_demo_model

from training.demo import train


def run(folder: Path, single: int, whole: int) -> None:
    once = [f"--{stage}-steps=1" for stage in ("align", "placed", "related", "renumbered")]
    steps = ["--small", "--single-steps", str(single), "--whole-steps", str(whole), "--device", "cpu", *once]
    places = ["--out", str(folder / "runs"), "--weights", str(folder / "weights"), "--clip", str(WEIGHTS / "clip")]
    train.main([*steps, *places])


def test_it_resumes_and_writes_an_ordinary_model(tmp_path: Path) -> None:
    need_demo_model()
    run(tmp_path, 1, 1)
    run(tmp_path, 2, 1)
    log = [json.loads(line) for line in (tmp_path / "runs/log.jsonl").read_text().splitlines()]
    stages = ["align", "single", "placed", "related", "whole", "renumbered"]
    assert [(line["stage"], line["step"]) for line in log] == [(stage, 1) for stage in stages] + [("single", 2)]
    model = LlavaNextForConditionalGeneration.from_pretrained(tmp_path / "weights")
    clip = CLIPModel.from_pretrained(tmp_path / "weights/clip")
    tower = {name.removeprefix("vision_model."): w for name, w in model.model.vision_tower.state_dict().items()}
    assert all(torch.equal(w, tower[name]) for name, w in clip.vision_model.state_dict().items())
    assert AutoProcessor.from_pretrained(tmp_path / "weights").chat_template
    assert sum(file.stat().st_size for file in (tmp_path / "weights").rglob("*")) <= 30e6


def test_the_shipped_weights_are_small_and_share_their_tower() -> None:
    need_demo_model()
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*")) <= 30e6
    model = LlavaNextForConditionalGeneration.from_pretrained(WEIGHTS)
    clip = CLIPModel.from_pretrained(WEIGHTS / "clip")
    own = model.model.vision_tower.post_layernorm.weight
    assert torch.equal(own, clip.vision_model.post_layernorm.weight)
    last = f"encoder.layers.{clip.config.vision_config.num_hidden_layers - 1}.self_attn.q_proj.weight"
    assert torch.equal(model.model.vision_tower.state_dict()[last], clip.vision_model.state_dict()[last])
