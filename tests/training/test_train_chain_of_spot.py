"""Teaching where to look: targets are boxes and answers, and what is written can be attached."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from herovlm import demo, modules
from herovlm.ops import region

pytest.importorskip("peft")
from training.chain_of_spot import data, train


@pytest.fixture(scope="module")
def ready():
    return demo.load()


def test_boxes_of_training_are_squares_inside_the_picture() -> None:
    for seed in range(data.FIRST, data.FIRST + 4):
        scene = data.scene_of(seed, large=seed % 2 == 1)
        for item in scene.items:
            box = data.box_of(item, scene.image.size)
            assert region.sound(box) == box
            assert region.read(region.text(box)) == box
            left, top, right, bottom = region.pixels(box, max(scene.image.size))
            assert abs(right - left - 192) <= 1
            assert abs(bottom - top - 192) <= 1
            side = max(scene.image.size)
            across, down = (side - scene.image.width) // 2, (side - scene.image.height) // 2
            assert left - 1 <= item.label_box[0] + across < item.label_box[2] + across <= right + 1
            assert top - 1 <= item.label_box[1] + down < item.label_box[3] + down <= bottom + 1


def test_a_step_teaches_boxes_and_answers_and_the_adapter_can_be_attached(ready, tmp_path: Path) -> None:
    model, processor = ready
    spots = [data.spot(model, processor, data.FIRST)]
    stage = train.Stage(model, processor)
    trained = [p for p in stage.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) * 2 < 1_500_000
    for kind in ("places", "boxes", "answers"):
        loss, seen = stage((kind, spots * 3, random.Random(0)))  # a third counts as drawn, the others as large
        loss.backward()
        told = {kind, "says"} if kind == "boxes" else {kind}
        assert set(seen) == {f"{what}_{size}" for what in told for size in ("drawn", "large")}
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    ids, start, _ = stage.boxes(spots[0], random.Random(0))[0]
    assert region.read(processor.tokenizer.decode(ids[start:])) is not None
    saying = [processor.tokenizer.decode(ids[start + at]) for at in stage.saying(ids[start:])]
    left, top = (str(end)[2] for end in region.read(processor.tokenizer.decode(ids[start:]))[:2])
    assert saying == [left, top]  # the first decimals
    ids, start, crop = stage.answers(spots[0], random.Random(0))[0]
    assert ids.count(-1) == len(crop)
    assert processor.tokenizer.decode(ids[start:-1]).strip() == spots[0].answer
    with torch.no_grad():
        trained[1].add_(0.01)
    train.export(model, tmp_path / "mine", 1)
    other, _ = demo.load()
    with modules.attach(other, tmp_path / "mine") as own:
        assert own.told == "chain_of_spot"


def test_the_small_recipe_writes_an_adapter_that_leaves_no_trace(
    ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine"
    monkeypatch.setattr("sys.argv", ["train", "--small", "--out", str(out), "--weights", str(mine)])
    train.main()
    assert (mine / "adapter_model.safetensors").stat().st_size < 1_500_000
    assert '"step": 12' in (out / "log.jsonl").read_text("utf-8")
    model, _ = demo.load()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with modules.attach(model, mine):
        assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    train.main()  # goes on from the last step: there is none left
    assert (out / "log.jsonl").read_text("utf-8").count("\n") == 1


def test_a_third_of_the_pictures_is_as_drawn_and_steps_are_about_all_kinds() -> None:
    shelf = [f"{'large' if seed % 2 else 'drawn'} {seed}" for seed in range(20)]
    steps = zip(range(24), data.batches(shelf, 6, 5), strict=False)
    kinds, batches = zip(*((kind, spots) for _, (kind, spots, _) in steps), strict=True)
    for spots in batches:
        assert [spot.split()[0] for spot in spots] == ["drawn"] * 2 + ["large"] * 4
    assert {kind: kinds.count(kind) for kind in kinds} == {"places": 10, "boxes": 12, "answers": 2}


def test_places_are_eighths_of_the_picture_and_what_there_are_two_of_is_not_asked_for() -> None:
    scene = data.scene_of(data.FIRST + 1, large=True)
    names = [item.name for item in scene.items]
    told = {question.removeprefix("Where is the ")[:-1]: place for question, place in data.places_of(scene)}
    assert set(told) == {name for name in names if names.count(name) == 1}
    for item in scene.items:
        if item.name in told:
            column, row = (int(digit) for digit in told[item.name])
            cell = item.cell[0] * 8 * 48 / scene.image.width, item.cell[1] * 8 * 48 / scene.image.height
            assert cell[0] - 1 < column <= cell[0] + 1
            assert cell[1] - 1 < row <= cell[1] + 1
