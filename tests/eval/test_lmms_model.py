"""The model that lmms-eval asks: batches, order, counts, and what it refuses; lmms-eval itself is a stand-in here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmms_stub
import pytest
import saved
import tiny
from test_lmms_prompts import TEMPLATE, user

import herovlm
from herovlm import ModelError, TextTowerError, UnsupportedError
from herovlm.eval.lmms.prompts import Prompt, prompt_of

DOCS = [
    [user(tiny.picture(60, 31, 1), "What is it?")],
    [user("Nothing to see?")],
    [user(tiny.picture(20, 60, 2), "What is it?")],
    [user(tiny.picture(33, 33, 3), tiny.picture(64, 20, 4), "Which is bigger, and why?")],
    [user(tiny.picture(20, 20, 5), "Hm?")],
]


@pytest.fixture(scope="module")
def folder(models: Callable[..., tiny.Tiny], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = saved.save(models("llava_next"), tmp_path_factory.mktemp("model"))
    (place / "chat_template.jinja").write_text(TEMPLATE, "utf-8")
    return place


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, lmms_stub.Said]:
    return lmms_stub.install(monkeypatch)


def asked(model: Any, lengths: tuple[int, ...] = (4, 6, 4, 6, 4)) -> list[Any]:
    """Requests for all documents, of two kinds of options, as lmms-eval makes them."""
    model.task_dict = {"task": {"test": DOCS}}
    options = [{"max_new_tokens": length, "image_aspect_ratio": "pad"} for length in lengths]
    return [
        lmms_stub.Instance(("", lambda doc: doc, how, number, "task", "test")) for number, how in enumerate(options)
    ]


def alone(model: Any, prompt: Prompt, length: int, **drop: Any) -> tuple[str, Any]:
    """One prompt without the harness, and its inputs; `drop` is empty for the plain model."""
    processor = model.processor
    inputs = processor(images=list(prompt.pictures) or None, text=[prompt.text], return_tensors="pt")
    if drop:
        inputs = herovlm.drop(model.model, inputs, question=prompt.question, processor=processor, **drop)
    new = model.model.generate(**inputs, max_new_tokens=length, do_sample=False, pad_token_id=0)
    return processor.decode(new[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip(), inputs


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(
    "drop",
    [
        {},
        {"method": "hero", "keep": 0.3},
        {"method": "random", "tokens": 40, "positions": "original", "newlines": "all"},
    ],
    ids=str,
)
def test_answers_are_those_of_one_prompt_alone(stand_in: Any, folder: Path, batch_size: int, drop: Any) -> None:
    words = [f"{name}={value}" for name, value in (drop or {"keep": 1.0}).items()]
    beside = {"batch_size": batch_size, "device": "cpu", "max_batch_size": None}
    model = stand_in[0].create_from_arg_string(",".join([f"pretrained={folder}", *words]), beside)
    requests = asked(model)
    for request, got in zip(requests, model.generate_until(requests), strict=True):
        prompt = prompt_of(DOCS[request.args[3]], model.processor)
        text, inputs = alone(model, prompt, request.args[2]["max_new_tokens"], **drop)
        assert (got.text, got.token_counts.input_tokens) == (text, inputs["input_ids"].shape[1])
        assert 0 < got.token_counts.output_tokens <= request.args[2]["max_new_tokens"]


def test_what_was_sent_is_counted(stand_in: Any, folder: Path) -> None:
    made, said = stand_in
    model = made(pretrained=str(folder), method="random + fastv(layer=1, keep=0.5)", keep=0.4, batch_size=2)
    model.generate_until(asked(model))
    shorts = [
        herovlm.drop(model.model, alone(model, prompt_of(doc, model.processor), 1)[1], method="random", keep=0.4)
        for doc in DOCS
    ]
    kept = [one.positions for short in shorts for one in short.kept]
    seen = [one.positions for short in shorts for one in short.seen]
    (metrics,) = said.metrics
    assert metrics["pictures"] == len(kept) == 5
    assert metrics["visual_positions"] == pytest.approx(sum(seen) / 5)
    assert metrics["visual_positions_kept"] == pytest.approx(sum(kept) / 5)
    assert metrics["visual_positions_in_layers"] < metrics["visual_positions_kept"]
    assert said.warnings == ["generation_kwargs: image_aspect_ratio is no option of generate() and is left out"]


def test_a_strategy_that_looks_again_is_given_the_pictures(stand_in: Any, folder: Path) -> None:
    model = stand_in[0](pretrained=str(folder), method="hero + chain_of_spot(roi='attention')", keep=0.3)
    request = asked(model)[0]
    (got,) = model.generate_until([request])
    prompt = prompt_of(DOCS[0], model.processor)
    inputs = model.processor(images=list(prompt.pictures), text=[prompt.text], return_tensors="pt")
    how = {"question": prompt.question, "processor": model.processor, "pictures": prompt.pictures}
    with herovlm.dropping(model.model, method="hero + chain_of_spot(roi='attention')", keep=0.3, **how):
        new = model.model.generate(**inputs, max_new_tokens=4, do_sample=False, pad_token_id=0)
    text = model.processor.decode(new[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert got.text == text.strip()


@pytest.mark.parametrize(
    "method", ["full + contrast(amateur='uniform')", "full + second", "full + second(refresh='every')"]
)
def test_a_strategy_that_reads_a_prompt_several_times_is_counted(stand_in: Any, folder: Path, method: str) -> None:
    made, said = stand_in
    model = made(pretrained=str(folder), method=method, keep=1.0, batch_size=2)
    requests = [asked(model)[0], asked(model)[2]]
    answers = model.generate_until(requests)
    prompts = [prompt_of(DOCS[number], model.processor) for number in (0, 2)]
    ids = [alone(model, prompt, 1)[1]["input_ids"] for prompt in prompts]
    positions = sum(int((one == model.model.config.image_token_id).sum()) for one in ids)
    (metrics,) = said.metrics
    assert metrics["pictures"] == 2
    assert metrics["visual_positions"] == positions / 2
    assert metrics["visual_positions_kept"] > metrics["visual_positions"], "the passes over fewer positions are counted"
    for prompt, answer in zip(prompts, answers, strict=True):
        inputs = model.processor(images=list(prompt.pictures), text=[prompt.text], return_tensors="pt")
        with herovlm.dropping(model.model, method=method, keep=1.0, question=prompt.question) as record:
            new = model.model.generate(**inputs, max_new_tokens=4, do_sample=False, pad_token_id=0)
        text = model.processor.decode(new[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert answer.text == text.strip()
        assert answer.token_counts.input_tokens >= inputs["input_ids"].shape[1]
        assert len(record.read) == 1


def test_answers_end_where_the_task_says(stand_in: Any, folder: Path) -> None:
    model = stand_in[0](pretrained=str(folder), method="random", keep=0.5)
    request = asked(model, (8,))[0]
    (whole,) = model.generate_until([request])
    end = whole.text[len(whole.text) // 2 :]
    assert end
    request.args[2]["until"] = [end]
    assert model.generate_until([request])[0].text == whole.text[: whole.text.index(end)].strip()


def test_options_of_loading_reach_the_model(stand_in: Any, folder: Path) -> None:
    how = {"dtype": "bfloat16", "attn_implementation": "eager"}
    model = stand_in[0](pretrained=str(folder), method="random", keep=0.5, device="cpu", **how)
    assert (str(model.model.dtype), model.model.config._attn_implementation) == ("torch.bfloat16", "eager")
    assert (model.device.type, model.processor.tokenizer.padding_side, model.model.training) == ("cpu", "left", False)
    assert len(model.generate_until(asked(model))) == len(DOCS)


def test_what_is_not_served_is_refused(stand_in: Any, folder: Path) -> None:
    model = stand_in[0](pretrained=str(folder), method="random", keep=0.5)
    with pytest.raises(UnsupportedError, match="generating form"):
        model.loglikelihood(asked(model))
    with pytest.raises(UnsupportedError, match="several rounds"):
        model.generate_until_multi_round(asked(model))


def test_a_family_that_is_not_supported_is_refused(stand_in: Any, folder: Path) -> None:
    with pytest.raises(ModelError, match="family 'clip'"):
        stand_in[0](pretrained=str(folder / "clip"))


def test_a_missing_clip_is_told_before_the_first_question(stand_in: Any, folder: Path) -> None:
    with pytest.raises(TextTowerError):
        stand_in[0](pretrained=str(folder), clip=str(folder / "nothing"))
    assert stand_in[0](pretrained=str(folder), clip=str(folder / "clip"))
    assert stand_in[0](pretrained=str(folder), clip=str(folder / "nothing"), method="hero(alpha=1)")
