"""Chain-of-Spot: a closer look at a part of the picture, whoever says at which."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import tiny_models
import torch

import herovlm
from herovlm import demo, modules
from herovlm.api import answered
from herovlm.demo import scenes
from herovlm.errors import InputsError, MethodError, UnsupportedError, UsageError
from herovlm.ops import region
from herovlm.prompt.template import prompt
from herovlm.request import Request
from herovlm.strategies import crops, spots, turns
from herovlm.view import see

HOW = {"do_sample": False, "max_new_tokens": 8, "pad_token_id": 0}
ATTENTION = "chain_of_spot(roi=attention, crop_keep=0.3)"
LARGE = scenes.make(1_999_003, size=(768, 768), most=16)  # the processor halves it: no label can be read


@pytest.fixture(scope="module")
def ready():
    return demo.load()


def asked(processor: Any, board: scenes.Scene, question: int = 0) -> Any:
    text = prompt(processor, board.questions[question].text)
    return processor(images=[[board.image]], text=[text], return_tensors="pt")


def said(processor: Any, out: torch.Tensor, inputs: Any) -> str:
    text: str = processor.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return text.strip()


def test_labels_that_the_picture_as_shown_does_not_tell_are_read_in_the_crop(ready) -> None:
    model, processor = ready
    inputs, answer = asked(processor, LARGE), LARGE.questions[0].answer
    before = model.generate(**inputs, **HOW)
    assert said(processor, before, inputs) != answer
    with herovlm.decoding(model, ATTENTION, tokens=48, pictures=[LARGE.image]) as record:
        out = model.generate(**inputs, **HOW)
    assert said(processor, out, inputs) == answer
    (fact,) = record.facts
    assert fact["passes"] == 1
    assert fact["picture_positions"] == 48
    assert not fact["whole"]
    assert torch.equal(out[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])
    assert "generate" not in vars(model)
    assert torch.equal(model.generate(**inputs, **HOW), before)


def test_the_model_that_was_taught_says_where_to_look_and_the_other_does_not(ready) -> None:
    """On development boards twice as large as the model reads: two of three boxes hold what is asked for, and more."""
    model, processor = ready
    boards = [scenes.make(seed, size=(768, 768), most=16) for seed in range(1_970_000, 1_970_008)]

    def looked(board: scenes.Scene) -> tuple[bool, bool]:
        inputs, (wide, high) = asked(processor, board), board.image.size
        (label,) = [item.label_box for item in board.items if f"the {item.name}?" in board.questions[0].text][:1]
        with herovlm.decoding(model, "chain_of_spot(crop_keep=0.5)", tokens=24, pictures=[board.image]) as record:
            out = model.generate(**inputs, **HOW)
        (fact,) = record.facts
        left, top, right, bottom = fact["box"]
        held = (
            left * wide <= label[0]
            and top * high <= label[1]
            and label[2] <= right * wide
            and label[3] <= bottom * high
        )
        return held and not fact["whole"], said(processor, out, inputs) == board.questions[0].answer

    with modules.attach(model, "chain_of_spot"):
        taught = [looked(board) for board in boards]
    untaught = [looked(board) for board in boards[:3]]
    held, right = (sum(own) for own in zip(*taught, strict=True))
    assert min(held, right) >= 5, taught
    assert sum(held for held, _ in untaught) == sum(right for _, right in untaught) == 0


def test_without_pictures_the_crop_is_of_the_pixels_that_the_model_was_given(ready) -> None:
    model, processor = ready
    board = scenes.make(4, size=(384, 288))  # shown as it is
    inputs, found = asked(processor, board), []
    for pictures in (None, [board.image]):
        with herovlm.decoding(model, ATTENTION, tokens=64, pictures=pictures) as record:
            found.append((model.generate(**inputs, **HOW).tolist(), record.facts))
    assert found[0] == found[1]


def test_what_is_no_box_is_the_whole_picture(ready) -> None:
    model, processor = ready  # has not been taught to write boxes
    board = scenes.make(5, size=(384, 384))
    inputs = asked(processor, board)
    with herovlm.decoding(model, "chain_of_spot(crop_keep=0.2)", tokens=40) as record:
        model.generate(**inputs, **HOW)
    (fact,) = record.facts
    assert fact["whole"]
    assert fact["box"] == [0.0, 0.0, 1.0, 1.0]
    assert fact["said"] == "[0.0, 0.0, 1.0, 1.0]"
    assert fact["where_positions"] == 336
    assert fact["crop_positions"] == round(0.2 * 336)
    assert fact["passes"] == 2


@pytest.mark.parametrize(
    ("how", "first"),
    [("roi=generated", 336), ("where_keep=0.25", 84), ("roi=attention", 0)],
)
def test_positions_are_counted_over_both_passes(ready, how: str, first: int) -> None:
    model, processor = ready
    board = scenes.make(6, size=(384, 384))
    request = Request.of(
        f"hero + chain_of_spot({how}, crop_keep=0.3)",
        tokens=40,
        question=board.questions[0].text,
        processor=processor,
    )
    with torch.no_grad():
        choice = see(model, asked(processor, board), request).choose(request)
        found = answered([(choice, 0)], **HOW)
    (fact,) = found.facts
    assert fact.get("where_positions", 0) == first
    assert found.positions == (first + 40 + fact["crop_positions"],)
    assert found.short is not None
    assert [kept.positions for kept in found.short.kept] == [40, fact["crop_positions"]]


def test_prompts_of_a_batch_do_not_depend_on_each_other(ready) -> None:
    model, processor = ready
    boards = [scenes.make(seed) for seed in (3, 8)]
    texts = [prompt(processor, board.questions[0].text) for board in boards]
    how = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
    batch = processor(images=[[board.image] for board in boards], text=texts, **how)
    with herovlm.decoding(model, ATTENTION, tokens=48) as record:
        both = model.generate(**batch, **HOW)[:, batch["input_ids"].shape[1] :]
        boxes = [fact["box"] for fact in record.facts]
        for row, board in enumerate(boards):
            inputs = asked(processor, board)
            alone = model.generate(**inputs, **HOW)[0, inputs["input_ids"].shape[1] :]
            assert all(a == b for a, b in zip(both[row].tolist(), alone.tolist(), strict=False) if a and b)
            assert record.facts[0]["box"] == boxes[row]


def test_a_box_of_the_whole_picture_is_the_picture() -> None:
    picture = tiny.picture(60, 31)
    assert crops.cut(picture, region.WHOLE, (9, 9, 9)) is picture


@pytest.mark.parametrize("box", [(0.1, 0.2, 0.5, 0.8), (0.5, 0.5, 0.5, 0.5), (0.999, 0.999, 1.0, 1.0)])
def test_a_crop_is_a_square_of_at_least_a_pixel(box: region.Box) -> None:
    cut = crops.cut(tiny.picture(60, 31), box, (9, 9, 9))
    assert cut.width == cut.height >= 1


def test_shares_of_a_picture_become_shares_of_its_square() -> None:
    assert crops.within((400, 200), (0, 0, 1, 1)) == (0, 0.25, 1, 0.75)
    assert crops.within((200, 400), (0.5, 0, 1, 0.5)) == (0.5, 0, 0.75, 0.5)


def test_weights_are_heros_over_the_picture(ready) -> None:
    model, processor = ready
    board = scenes.make(4, size=(384, 288))
    request = Request.of("hero", question=board.questions[0].text, processor=processor)
    with torch.no_grad():
        choice = see(model, asked(processor, board), request).choose(request)
    heat = spots.weights(choice.seen[0])
    assert heat.shape == (288 // 24, 384 // 24)
    assert heat.sum().item() == pytest.approx(1, abs=1e-5)
    tile = choice.kept[0].why["weight"][1:]
    assert heat[:6, :8].sum() / heat[:6, 8:].sum() == pytest.approx((tile[0] / tile[1]).item(), rel=1e-4)


def test_the_second_prompt_shows_both_pictures(ready) -> None:
    model, processor = ready
    ids, mask = turns.tokens(model, processor, [turns.both("Q?", "what", "[0.1, 0.2, 0.5, 0.8]")], [[3, 2]])
    assert (ids == model.config.image_token_id).sum() == 5
    assert mask.all()
    with pytest.raises(InputsError, match="shows 1 pictures of 2"):
        turns.tokens(model, processor, [turns.where("Q?", "what")], [[3, 2]])


@pytest.mark.parametrize(
    "spec",
    [
        "chain_of_spot(roi='both')",
        "chain_of_spot(word='why')",
        "chain_of_spot(crop_keep=0)",
        "chain_of_spot(crop_keep=1.5)",
        "chain_of_spot(where_keep=0)",
        "chain_of_spot(least=0)",
        "chain_of_spot + fastv",
    ],
)
def test_bad_specs_are_refused(ready, spec: str) -> None:
    with pytest.raises(MethodError), herovlm.decoding(ready[0], spec):
        pass


def test_what_makes_no_sense_is_refused(ready) -> None:
    model, processor = ready
    board = scenes.make(4)
    inputs = asked(processor, board)
    two = processor(images=[[board.image] * 2], text=[prompt(processor, "Which?", 2)], return_tensors="pt")
    with herovlm.decoding(model, ATTENTION), pytest.raises(UnsupportedError, match="one picture"):
        model.generate(**two, **HOW)
    with herovlm.decoding(model, ATTENTION), pytest.raises(UnsupportedError, match="greedily"):
        model.generate(**inputs, **HOW, num_beams=2)
    with pytest.raises(UnsupportedError, match="no positions"):
        herovlm.decoding(model, ATTENTION, positions="original").__enter__()
    with pytest.raises(UnsupportedError, match="not known for"):
        herovlm.decoding(tiny_models.load("internvl").model, "chain_of_spot", method="hero(alpha=1.0)").__enter__()
    with pytest.raises(UsageError, match="no list of PIL images"):
        herovlm.decoding(model, ATTENTION, pictures="board.png").__enter__()
    with herovlm.decoding(model, ATTENTION, pictures=[]), pytest.raises(InputsError, match="0 pictures="):
        model.generate(**inputs, **HOW)
    assert "generate" not in vars(model)


def test_without_a_processor_it_says_what_to_pass(models: Any) -> None:
    made = models("llava_next")
    inputs = made.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nwhat ASSISTANT:"])
    with (
        herovlm.decoding(made.model, "chain_of_spot", question="Which?"),
        pytest.raises(InputsError, match="processor="),
    ):
        made.model.generate(**inputs, **HOW)
