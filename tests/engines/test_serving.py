"""What a server is asked, and the command that starts it; without vLLM."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from herovlm import demo
from herovlm.cli.main import app
from herovlm.engines import vllm
from herovlm.engines.vllm.asked import Asked, Settings
from herovlm.engines.vllm.eyes import Eyes, joined, load, parts
from herovlm.engines.vllm.serve import command
from herovlm.errors import (
    BudgetError,
    HeroError,
    MethodError,
    ModelError,
    TextTowerError,
    UnsupportedError,
    UsageError,
)
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
        ({"do_resize": False}, "do_resize"),
        ({"herovlm_kep": 0}, "herovlm_kep"),
        ({"herovlm_keep": 0}, "not in (0, 1]"),
        ({"herovlm_keep": (0.1, 0.2)}, "one number"),
        ({"herovlm_keep": np.array([0.1, 0.2])}, "one number"),
        ({"herovlm_tokens": torch.tensor([3, 4])}, "one number"),
    ],
)
def test_a_bad_request_says_what_is_wrong(given: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        Asked.read(given)


@pytest.mark.parametrize("own", [np.float32(0.25), torch.tensor(0.25), 0.25])
def test_numbers_of_numpy_and_torch_are_numbers(own: object) -> None:
    asked = Asked.read({"herovlm_keep": own})
    assert Asked.arrived(asked.sent()) == Asked(keep=0.25)
    whole = Asked.read({"herovlm_tokens": np.int64(7)})
    assert Asked.arrived(whole.sent()) == Asked(tokens=7)


def test_counts_are_those_of_token_count_and_never_above_the_servers() -> None:
    settings = Settings(keep=0.3)
    for size in SIZES:
        for asked, own in ((Asked(), 0.3), (Asked(keep=0.1), 0.1)):
            assert settings.count(config(), size, asked) == token_count(config(), size, Request.of(keep=own))
        assert settings.count(config(), size, Asked(tokens=5)) == 5
        with pytest.raises(BudgetError, match="started for"):
            settings.count(config(), size, Asked(keep=0.5))


def test_whether_the_question_matters_is_the_methods_own() -> None:
    assert Settings("hero").reads_question(config())
    assert not Settings("hero(alpha=1)").reads_question(config())
    assert not Settings("random").reads_question(config())


def test_blocks_of_a_method_are_those_of_the_models_tower() -> None:
    deep = config()
    deep.vision_config.num_hidden_layers = 40
    assert not Settings("cls_topk(layers=(38,))").reads_question(deep)
    with pytest.raises(MethodError, match="layer 38"):
        command("demo", config(), Settings("cls_topk(layers=(38,))"))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (Settings("full + contrast"), HeroError),
        (Settings("hero + fastv"), HeroError),
        (Settings("fastv"), UnsupportedError),
        (Settings("full + sparsevlm"), UnsupportedError),
        (Settings("hero", keep=2.0), BudgetError),
        (Settings("heroo"), HeroError),
        (Settings("hero", tokens=2, newlines="all"), BudgetError),
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


REFUSED = [
    ["--keep", "auto"],
    ["--keep", "0.1,0.2"],
    ["--keep", "3"],
    ["--hf-overrides", "{}"],
    ["--hf_overrides={}"],
    ["--hf-overrides.architectures", "x"],
    ["--hf-over", "{}"],
    ["--mm-processor-kwargs", '{"max_patches": 2}'],
    ["--mm_processor_kwargs.crop_size", "2"],
]


@pytest.mark.parametrize("more", REFUSED)
def test_the_command_line_refuses_what_cannot_be(more: list[str]) -> None:
    ran = CliRunner().invoke(app, ["serve", "demo", "--show", *more])
    assert ran.exit_code == 2
    assert len(ran.output.strip().splitlines()) == 1


def test_a_request_has_so_many_pictures_unless_the_owner_says_otherwise() -> None:
    words = command("demo", config(), Settings())
    assert json.loads(words[words.index("--limit-mm-per-prompt") + 1]) == {"image": 16}
    for own in ("--limit-mm-per-prompt", "--limit_mm_per_prompt.image"):
        words = command("demo", config(), Settings(), [own, "3", "--model-impl", "auto"])
        assert words[-4:] == [own, "3", "--model-impl", "auto"]
        assert sum("limit" in word for word in words) == 1


def test_a_clip_that_is_missing_is_said_before_the_server_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(demo.WEIGHTS, tmp_path / "model", ignore=shutil.ignore_patterns("clip"))
    monkeypatch.setattr(vllm, "tested", lambda: "0.32.0")
    started: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _, words: started.append(words))
    ran = CliRunner().invoke(app, ["serve", str(tmp_path / "model")])
    assert ran.exit_code == 1
    assert "CLIP" in ran.output
    assert not started
    assert "from_pretrained" not in ran.output  # no name on the hub
    ran = CliRunner().invoke(app, ["serve", str(tmp_path / "model"), "--method", "hero(alpha=1)", "--revision", "main"])
    assert ran.exit_code == 0, ran.output
    assert started[-1][started[-1].index("--revision") + 1] == "main"
    assert CliRunner().invoke(app, ["serve", "demo"]).exit_code == 0
    assert started[-1][started[-1].index("--served-model-name") + 1] == "demo"
    clip = demo.WEIGHTS / "clip"
    assert CliRunner().invoke(app, ["serve", str(tmp_path / "model"), "--clip", str(clip)]).exit_code == 0
    told = json.loads(started[-1][started[-1].index("--hf-overrides") + 1])
    assert told["herovlm"]["clip"] == str(clip)


@pytest.mark.parametrize("gpus", ["0.5", "2"])
def test_an_engine_of_vllm_takes_a_whole_gpu(gpus: str, tmp_path: Path) -> None:
    pile = tmp_path / "pile.jsonl"
    pile.write_text('{"id": "0", "image": "a.png", "question": "what?"}\n', "utf-8")
    words = ["batch", str(pile), "--out", str(tmp_path / "out"), "--engine", "vllm", "--gpus", gpus]
    ran = CliRunner().invoke(app, words)
    assert (ran.exit_code, "give 0 or 1" in ran.output) == (2, True), ran.output


def test_the_clip_that_was_named_scores_the_question(tmp_path: Path) -> None:
    shutil.copytree(demo.WEIGHTS, tmp_path / "model", ignore=shutil.ignore_patterns("clip"))
    how = {"dtype": torch.float32, "device": torch.device("cpu")}
    with pytest.raises(TextTowerError):
        load(str(tmp_path / "model"), Settings(), **how)
    own = load(str(tmp_path / "model"), Settings(clip=str(demo.WEIGHTS / "clip")), **how)
    assert own.model.config.herovlm_clip == str(demo.WEIGHTS / "clip")


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


def test_many_pictures_are_looked_at_in_parts(eyes: Eyes, monkeypatch: pytest.MonkeyPatch) -> None:
    """And are what they are together."""
    _, processor = demo.load()
    sizes = [(384, 384), (100, 80), (384, 200), (90, 90), (384, 384), (80, 300)]
    made = [processor(images=[Image.new("RGB", size, "red")], text=["<image>"], return_tensors="pt") for size in sizes]
    pictures = [
        {"input_ids": one["input_ids"][0], "pixel_values": one["pixel_values"], "image_sizes": one["image_sizes"]}
        for one in made
    ]
    asked = [Asked("What is red?", tokens=1 + n) for n in range(len(sizes))]
    whole = eyes.look(pictures, asked)
    seen: list[int] = []
    true = see

    def watched(model: object, inputs: dict[str, torch.Tensor], request: Request) -> object:
        seen.append(int(inputs["pixel_values"].shape[:2].numel()))
        return true(model, inputs, request)

    monkeypatch.setattr("herovlm.engines.vllm.eyes.see", watched)
    monkeypatch.setattr("herovlm.engines.vllm.eyes.TOGETHER", 7)
    found = eyes.look(pictures, asked)
    assert len(seen) > 1
    assert max(seen) <= 7
    for one, other in zip(found, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@given(st.lists(st.integers(1, 12)), st.integers(1, 30))
def test_parts_are_all_pictures_in_order_and_no_wider_than_they_may_be(tiles: list[int], most: int) -> None:
    found = parts(range(len(tiles)), tiles, most)
    assert [one for part in found for one in part] == list(range(len(tiles)))
    for part in found:
        assert len(part) == 1 or max(tiles[i] for i in part) * len(part) <= most


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
