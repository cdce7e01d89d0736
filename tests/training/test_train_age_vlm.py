"""Training of cross-attention: masks fall on what is asked for, its own reading is the library's, and it resumes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tree import need_demo_model

from herovlm import api, demo
from herovlm.demo import draw, scenes
from herovlm.modules import stored
from herovlm.modules.recall import Recall
from training.age_vlm import data, export, train
from training.demo import data as pictures

SEED = data.FIRST


@pytest.fixture(scope="module")
def ready():
    need_demo_model()
    return demo.load()


@pytest.fixture(scope="module")
def seen(ready, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("age_vlm")
    (folder / "seen").mkdir()
    torch.save([data.record(*ready, SEED + n) for n in range(train.PICTURES)], folder / "seen/000.pt")
    return folder


def test_items_stand_where_the_patches_show_them() -> None:
    for seed in range(SEED, SEED + 30):
        picture = pictures.picture(seed)
        found = data.places_of_items(picture.scene)
        assert torch.equal(found >= 0, picture.targets[..., 0] < pictures.NONE)
        shapes = torch.tensor([draw.SHAPES.index(item.shape) for item in picture.scene.items])
        assert torch.equal(shapes[found[found >= 0]], picture.targets[..., 0][found >= 0])


def test_questions_are_about_what_they_name() -> None:
    kinds = set()
    for seed in range(SEED, SEED + 30):
        scene = scenes.make(seed)
        for question in data.questions_of(scene):
            items = [scene.items[number] for number in data.asked(question, scene.items)]
            kinds.add(question.kind)
            match question.kind:
                case "fine":
                    assert [item.text for item in items] == [question.answer]
                case "reverse":
                    assert [item.name for item in items] == [question.answer]
                case "existence":
                    assert bool(items) == (question.answer == "yes")
                case "counting":
                    assert len(items) == int(question.answer)
                case "spatial":
                    assert len(items) == 1
    assert kinds == set(scenes.QUESTION_KINDS)


def test_guidance_is_least_where_attention_is_the_mask() -> None:
    mask = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    asked = torch.tensor([[False, True, True], [True, True, True]])

    def loss(share: torch.Tensor) -> float:
        return float(train.guidance([share.expand(2, 3, 3, 4)], asked, mask))

    best = loss(mask[0])
    assert best == pytest.approx(float(torch.tensor(2.0).log()), abs=1e-4)  # its entropy
    assert loss(torch.full((4,), 0.25)) == pytest.approx(float(torch.tensor(4.0).log()), abs=1e-4)
    assert loss(torch.tensor([0.7, 0.3, 0.0, 0.0])) > best
    assert train.guidance([torch.rand(2, 3, 3, 4)], asked, torch.zeros(2, 4)) == 0


@pytest.mark.parametrize("memory", ["dropped", "kept"])
def test_it_reads_in_training_as_the_library_reads(ready, seen: Path, memory: str) -> None:
    model, processor = ready
    stage = train.Stage(model, processor.tokenizer, memory)
    for weight in stage.parameters():
        weight.data += torch.randn_like(weight) * 0.2
    scene, (picture, *_) = scenes.make(SEED), data.load(seen / "seen")
    question = data.questions_of(scene)[2]
    row = (picture, 2, data.METHODS.index("hero_plus"))
    inputs = processor(images=scene.image, text=train.words.prompt(question.text), return_tensors="pt")
    asked = {"method": "hero_plus", "keep": data.KEEP, "question": question.text}
    with torch.no_grad(), api.shortened(model, inputs, **asked) as (short, _):
        recall = Recall(model, stage.parts, memory)
        recall.prepare(short, again=True)
        with recall.installed():
            want = model(**short).logits[0, -1]
        plain = model(**short).logits[0, -1]
        found = stage.read([row])[0]  # (L, vocabulary)
    place = len(short["input_ids"][0]) - 1
    assert torch.allclose(found[place], want, atol=0.05)
    assert not torch.allclose(plain, want, atol=0.5)


def test_it_resumes_and_writes_what_the_library_loads(ready, seen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for steps in (1, 2):
        train.main(["--out", str(seen), "--steps", str(steps)])
    log = [json.loads(line) for line in (seen / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2]
    export.main(["--out", str(seen), "--weights", str(seen / "made")])
    loaded = stored.load(seen / "made")
    assert loaded.memory == "dropped"
    state = torch.load(seen / "dropped/last.pt", weights_only=True)["model"]
    assert all(
        torch.allclose(value, state[f"parts.{name}"], atol=0.01) for name, value in loaded.parts.state_dict().items()
    )
    assert "gates" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="looked at"):
        next(train.batches([], 0))
