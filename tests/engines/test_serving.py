"""What a server is asked, and the command that starts it; without vLLM."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from herovlm import demo
from herovlm.cli.main import app
from herovlm.engines import vllm
from herovlm.engines.vllm.asked import Asked, Settings
from herovlm.engines.vllm.eyes import Eyes, joined, load
from herovlm.engines.vllm.serve import command
from herovlm.errors import BudgetError, HeroError, ModelError, UsageError
from herovlm.plan import token_count
from herovlm.request import Request
from herovlm.view import see

SIZES = ((480, 192), (300, 500), (192, 192))  # height, width


def config() -> object:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(demo.WEIGHTS)


@pytest.mark.parametrize("asked", [Asked(), Asked("Où ? 在哪", keep=0.1), Asked(tokens=7), Asked("", 0.3)])
def test_what_is_asked_arrives(asked: Asked) -> None:
    assert Asked.arrived(asked.sent()) == asked
    assert Asked.read(asked.given) == asked


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"herovlm_keep": -1}, "keep=-1"),
        ({"herovlm_keep": "auto"}, "one number"),
        ({"herovlm_keep": [0.1, 0.2]}, "one number"),
        ({"herovlm_keep": 0.1, "herovlm_tokens": 4}, "keep"),
        ({"herovlm_tokens": 0}, "tokens"),
        ({"herovlm_question": ["a"]}, "no text"),
        ({"crop_size": 4}, "crop_size"),
    ],
)
def test_a_bad_request_says_what_is_wrong(given: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        Asked.read(given)


def test_counts_are_those_of_token_count_and_never_above_the_servers() -> None:
    settings = Settings(keep=0.3)
    for size in SIZES:
        for asked, own in ((Asked(), 0.3), (Asked(keep=0.1), 0.1)):
            assert settings.count(config(), size, asked) == token_count(config(), size, Request.of(keep=own))
        assert settings.count(config(), size, Asked(tokens=5)) == 5
        with pytest.raises(BudgetError, match="started for"):
            settings.count(config(), size, Asked(keep=0.5))


def test_whether_the_question_matters_is_the_methods_own() -> None:
    assert Settings("hero").reads_question
    assert not Settings("hero(alpha=1)").reads_question
    assert not Settings("random").reads_question


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (Settings("full + contrast"), HeroError),
        (Settings("hero + fastv"), HeroError),
        (Settings("hero", keep=2.0), BudgetError),
        (Settings("heroo"), HeroError),
    ],
)
def test_what_has_no_number_beforehand_is_refused_at_the_start(settings: Settings, error: type[Exception]) -> None:
    with pytest.raises(error):
        command("demo", config(), settings)


def test_families_with_positions_of_their_own_are_refused() -> None:
    with pytest.raises(ModelError, match="qwen2_5_vl"):
        vllm.architecture("qwen2_5_vl")
    assert set(vllm.ARCHITECTURES) <= set(tiny_models.NAMES)


def test_the_command_is_vllms_own_with_our_two_flags() -> None:
    ran = CliRunner().invoke(app, ["serve", "demo", "--keep", "0.3", "--show", "--port", "8001"])
    assert ran.exit_code == 0, ran.output
    words = command(str(demo.WEIGHTS), config(), Settings(keep=0.3), ["--port", "8001"])
    told = json.loads(words[words.index("--hf-overrides") + 1])
    assert told == {"architectures": ["HerovlmLlavaNext"], "herovlm": {"method": "hero", "keep": 0.3}}
    assert "--trust-request-mm-kwargs" in words
    assert words[-2:] == ["--port", "8001"]
    assert "HerovlmLlavaNext" in ran.output


@pytest.mark.parametrize("more", [["--keep", "auto"], ["--keep", "0.1,0.2"], ["--hf-overrides", "{}"], ["--keep", "3"]])
def test_the_command_line_refuses_what_cannot_be(more: list[str]) -> None:
    ran = CliRunner().invoke(app, ["serve", "demo", "--show", *more])
    assert ran.exit_code == 2
    assert len(ran.output.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def eyes() -> Eyes:
    return load(str(demo.WEIGHTS), Settings(keep=0.5), dtype=torch.float32, device=torch.device("cpu"))


def test_weights_that_are_missing_are_no_random_ones(tmp_path: Path) -> None:
    """As those of a quantised tower are, which transformers would make up."""
    shutil.copytree(demo.WEIGHTS, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    values = load_file(file)
    del values["vision_tower.encoder.layers.3.self_attn.v_proj.weight"]
    save_file(values, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"layers\.3\.self_attn\.v_proj"):
        load(str(file.parent), Settings(), dtype=torch.float32, device=torch.device("cpu"))


def test_eyes_have_no_language_model(eyes: Eyes) -> None:
    assert not eyes.model.base_model.language_model.layers
    held = sum(p.numel() for p in eyes.model.parameters() if p.device.type != "meta")
    model, _ = demo.load()
    tower = sum(
        p.numel()
        for part in ("vision_tower", "multi_modal_projector")
        for p in getattr(model.base_model, part).parameters()
    )
    assert held == tower + model.base_model.image_newline.numel()


def test_pictures_of_several_requests_are_what_each_would_be_alone(eyes: Eyes) -> None:
    """Sizes, questions, shares and numbers of tokens mixed: as `herovlm.drop` gives the language model each of them."""
    model, processor = demo.load()
    from herovlm.demo import scenes

    made = [scenes.make(seed) for seed in range(4)]
    asked = [Asked(one.questions[0].text, **own) for one, own in zip(made, BUDGETS, strict=True)]
    pictures, alone = [], []
    for one, own in zip(made, asked, strict=True):
        inputs = processor(images=[one.image], text=["<image>"], return_tensors="pt")
        vision = {name: inputs[name] for name in ("pixel_values", "image_sizes")}
        pictures.append({"input_ids": inputs["input_ids"][0], **vision})
        request = Request.of(keep=own.keep or (None if own.tokens else 0.5), tokens=own.tokens, question=own.question)
        alone += see(model, dict(inputs), request).choose(request).features()
    found = eyes.look(pictures, asked)
    for one, other in zip(found, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


BUDGETS = ({"keep": 0.2}, {"tokens": 17}, {}, {"keep": 1.0})


def test_pictures_are_joined_as_a_processor_would() -> None:
    _, processor = demo.load()
    from herovlm.demo import scenes

    images = [scenes.make(seed).image for seed in range(4)]
    together = processor(images=images, text=["<image>"] * 4, return_tensors="pt", padding=True, padding_side="left")
    single = [processor(images=[image], text=["<image>"], return_tensors="pt") for image in images]
    rows = [
        {"input_ids": one["input_ids"][0], **{k: one[k] for k in ("pixel_values", "image_sizes")}} for one in single
    ]
    made = joined(rows)
    assert torch.equal(made["pixel_values"], together["pixel_values"])
    assert torch.equal(made["image_sizes"], torch.as_tensor(together["image_sizes"]))
    assert torch.equal(made["attention_mask"], together["attention_mask"])
