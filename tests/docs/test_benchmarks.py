"""docs/benchmarks.md: its arguments are read, its tasks exist, its numbers are those of the processor."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lmms_home import ENVIRONMENT, needs_lmms_eval, python
from pages import blocks, commands
from transformers import LlavaNextProcessor
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from tree import ROOT, WEIGHTS, need_demo_model

import herovlm
from herovlm import registry
from herovlm.demo import scenes
from herovlm.eval.lmms.arguments import Arguments, check, split

PAGE = ROOT / "docs/benchmarks.md"
TEXT = PAGE.read_text("utf-8")
RUNS = [
    dict(zip(words[1::2], words[2::2], strict=True))
    for words in ([w for w in words if w != "--log_samples"] for words in commands(PAGE))
]


def test_every_command_can_be_read() -> None:
    assert len(RUNS) > 4
    asked = [check({**split(run["--model_args"]), "batch_size": run["--batch_size"]}) for run in RUNS]
    assert {run["--model"] for run in RUNS} == {"herovlm"}
    assert {(one.method, str(one.budget)) for one in asked} >= {("full", "1.0"), ("hero", "0.2"), ("hero", "320t")}
    assert len({one.pretrained for one in asked}) == 2
    assert len({run["--output_path"] for run in RUNS}) == len(RUNS)


def test_every_argument_has_its_row() -> None:
    rows = TEXT.partition("### What `--model_args` takes")[2].partition("\n\n`--batch_size`")[0].splitlines()
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row.strip("|").partition("|")[0])]
    assert sorted([*named, "batch_size", "device"]) == sorted(field.name for field in fields(Arguments))


@needs_lmms_eval
def test_the_tasks_exist_in_lmms_eval(tmp_path: Path) -> None:
    where = python("-c", "import importlib.util as u; print(u.find_spec('lmms_eval').origin)", folder=tmp_path).strip()
    texts = [path.read_text("utf-8") for path in (Path(where).parent / "tasks").rglob("*.yaml")]
    known = {found for text in texts for found in re.findall(r"^(?:task|group)\s*: *[\"']?(\w+)", text, re.MULTILINE)}
    assert {task for run in RUNS for task in run["--tasks"].split(",")} <= known
    metrics = {found for text in texts for found in re.findall(r"metric: *(\w+)", text)}
    rows = TEXT.partition("| task | metric |")[2].partition("\n\n")[0].splitlines()[2:]
    for task, metric in (row.strip("|").split("|")[:2] for row in rows):
        assert set(re.findall(r"`(\w+)`", task)) <= known
        assert set(re.findall(r"`(\w+)`", metric)) <= metrics


@pytest.mark.parametrize("page", ["docs/benchmarks.md", "CONTRIBUTING.md"])
def test_the_environment_for_lmms_eval_is_told(page: str) -> None:
    text = (ROOT / page).read_text("utf-8").replace("\\\n", " ")
    assert ENVIRONMENT in " ".join(text.split())


def test_positions_are_those_of_the_model() -> None:
    pinpoints = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    side = {"height": 336, "width": 336}
    images = LlavaNextImageProcessorPil(size={"shortest_edge": 336}, crop_size=side, image_grid_pinpoints=pinpoints)
    processor: Any = LlavaNextProcessor.__new__(LlavaNextProcessor)
    processor.image_processor, processor.patch_size = images, 14
    processor.num_additional_image_tokens, processor.vision_feature_select_strategy = 1, "default"
    told = re.findall(r"([\d,]+)(?: positions)? for (?:a picture of )?(\d+)x(\d+)", " ".join(TEXT.split()))
    assert len(told) == 3
    for count, width, height in told:
        sent = processor._get_number_of_features(int(height), int(width), 336, 336) - 1
        assert int(count.replace(",", "")) == sent


def test_the_class_for_vlmevalkit_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    need_demo_model()

    class LLaVA_Next:  # what the class takes from VLMEvalKit: the check of types, and generate() around the inner one
        allowed_types = ("text", "image", "video")

        def generate(self: Any, message: Any, dataset: Any = None) -> str:
            assert all(part["type"] in self.allowed_types for part in message)
            return str(self.generate_inner(message, dataset))

    for name in ("vlmeval", "vlmeval.vlm", "vlmeval.vlm.llava", "vlmeval.herovlm_model"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    vars(sys.modules["vlmeval.vlm.llava"])["LLaVA_Next"] = LLaVA_Next
    model_file, config = (block.text for block in blocks(PAGE) if block.language == "python")
    exec(compile(model_file, PAGE, "exec"), vars(sys.modules["vlmeval.herovlm_model"]))
    found: dict[str, Any] = {"supported_VLM": {}}
    exec(compile(config, PAGE, "exec"), found)
    (make,) = found["supported_VLM"].values()
    assert make.keywords["keep"] == 0.2

    scene = scenes.make(3)
    scene.image.save(tmp_path / "a.png")
    for keep in (1.0, 0.1):
        model = make.func(WEIGHTS, method="hero", keep=keep)
        for question in scene.questions[:3]:
            message = [{"type": "image", "value": str(tmp_path / "a.png")}, {"type": "text", "value": question.text}]
            content = [{"type": "image"}, {"type": "text", "text": question.text}]
            turns = [{"role": "user", "content": content}]
            prompt = model.processor.apply_chat_template(turns, add_generation_prompt=True)
            inputs = model.processor(images=scene.image, text=prompt, return_tensors="pt")
            if keep < 1:
                inputs = herovlm.drop(model.model, inputs, keep=keep, question=question.text)
            new = model.model.generate(**inputs, max_new_tokens=512, do_sample=False)[0, inputs["input_ids"].shape[1] :]
            assert model.generate(message) == model.processor.decode(new, skip_special_tokens=True).strip()
    with pytest.raises(AssertionError):
        model.generate([{"type": "video", "value": "a.mp4"}])


def test_every_family_has_its_name_on_the_page() -> None:
    assert all(f"`herovlm_{family}`" in TEXT for family in registry.FAMILIES)
