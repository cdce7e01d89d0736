"""Retrieval, boxes, words, parser and metrics of examples in context; the authors' own data are in tests/golden."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from herovlm.errors import HeroError, InputsError, ModelError, PictureError, SetupError, UsageError
from herovlm.eval.icl import compose, data, retrieve, score
from herovlm.eval.icl.run import FULL, Config
from herovlm.towers import relevance

KNOWN = ("Peace", "Fear", "Doubt/Confusion")


def views(seed: int, count: int) -> retrieve.Views:
    drawn = torch.randn(2, count, 8, generator=torch.Generator().manual_seed(seed))
    return retrieve.Views(*drawn)


def test_who_is_asked_about_is_most_like_himself_and_lengths_of_embeddings_are_nothing() -> None:
    pool = views(0, 50)
    asked = retrieve.Views(pool.bodies[7:9] * 30, pool.contexts[7:9] / 20)
    assert retrieve.rank(asked, pool)[:, 0].tolist() == [7, 8]
    assert retrieve.rank(asked, pool).shape == (2, 32)
    assert retrieve.likeness(asked, pool)[0, 7] == pytest.approx(1)


def test_of_equal_persons_the_earlier_comes_first() -> None:
    pool = views(0, 3)
    twice = retrieve.Views(pool.bodies.repeat(2, 1), pool.contexts.repeat(2, 1))
    order = retrieve.rank(pool, twice)[0].tolist()
    assert [order.index(i) < order.index(i + 3) for i in range(3)] == [True] * 3


@pytest.mark.parametrize("box", [(5, 6, 20, 18), (-4, -4, 10, 9), (20, 10, 60, 60)])
def test_body_and_context_share_the_picture(box: data.Box) -> None:
    image = Image.fromarray(np.full((30, 40, 3), 9, np.uint8))
    body, context = retrieve.body(image, box), np.asarray(retrieve.context(image, box))
    assert (context == 0).all(-1).sum() == body.width * body.height
    assert (np.asarray(body) == 9).all()


@pytest.mark.parametrize("box", [(10, 8, 60, 50), (60, 50, 10, 8), (-9, -9, 30, 200), (7, 7, 8, 8), (0, 0, 79, 69)])
def test_the_red_box_is_the_authors(box: data.Box) -> None:
    """Their rule, pixel by pixel: within 2 of the box, |dx| + |dy|, and not more than 2 inside it."""
    image = tiny.picture(80, 70)
    x0, x1 = sorted((box[0], box[2]))
    y0, y1 = sorted((box[1], box[3]))
    wanted = np.asarray(image).copy()
    for y in range(70):
        for x in range(80):
            away = max(x0 - x, x - x1, 0) + max(y0 - y, y - y1, 0)
            if away <= 2 and not (x0 + 2 < x < x1 - 2 and y0 + 2 < y < y1 - 2):
                wanted[y, x] = (255, 0, 0)
    before = image.tobytes()
    assert np.array_equal(np.asarray(compose.red_box(image, box)), wanted)
    assert image.tobytes() == before


def test_a_rationale_that_holds_the_sign_for_a_picture_is_refused() -> None:
    with pytest.raises(InputsError, match="stands for a picture"):
        compose.parts(KNOWN, [compose.Example("see <image>", "['Fear']")])


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("Calm.\n The final answer is ['Peace', 'Fear']", ("Peace", "Fear")),
        ('The final answer is ["fear"]. The final answer is: [PEACE]', ("Peace",)),
        ("the final answer is Doubt/Confusion.\nFear", ("Doubt/Confusion",)),
        ("The final answer is ['Fear', 'Hunger', 'Fear']", ("Fear",)),
        ("The final answer is []", ()),
        ("The final answer is ['Peace', 'Fe", ("Peace",)),
        ("Peace; fear", ("Peace", "Fear")),
        ("There is peace, no fear", ()),
        ("Peace, but no joy", ()),
        ("['Fear']", ("Fear",)),
        ("", ()),
    ],
)
def test_labels_of_an_answer(answer: str, wanted: tuple[str, ...]) -> None:
    assert score.named(answer, KNOWN) == wanted


def test_metrics() -> None:
    wanted = [["Peace"], ["Fear"], ["Peace", "Fear"]]
    assert score.mean_average_precision(score.table(wanted), wanted, KNOWN) == 1  # nobody has the third label
    nothing = score.mean_average_precision(score.table([[], [], []]), wanted, KNOWN)
    assert nothing == pytest.approx(2 / 3)  # how common the labels are
    assert [score.right(said, ["Fear"]) for said in ([], ["Fear"], ["Peace", "Fear"])] == [0, 1, 0]


def test_a_vote_and_the_nearest_where_it_is_even() -> None:
    shown = [["Fear"], ["Peace"], ["Peace", "Fear"]]
    votes = score.vote(shown, KNOWN)
    assert votes == {"Peace": pytest.approx(2 / 3), "Fear": pytest.approx(2 / 3), "Doubt/Confusion": 0}
    assert score.best(votes, shown) == "Fear"
    assert score.best(score.vote(shown[1:2], KNOWN), shown[1:2]) == "Peace"


def test_budgets_by_rank_the_last_going_on_and_the_query_last() -> None:
    assert Config("hero", (0.4, 0.1)).keep(4) == [0.4, 0.1, 0.1, 0.1, 1.0]
    assert Config("hero", (0.4, 0.1), 0.5).keep(1) == [0.4, 0.5]
    assert FULL.request(3, None).all
    assert Config("hero", (0.4,)).keep(0) == [1.0]


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a folder of persons, some fields of the first of the pool changed."""
    for name in ("a", "b"):
        tiny.picture(40, 30).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.txt").write_text("\n".join(KNOWN))

    def folder(**changed: object) -> Path:
        first = {"image": "a.png", "box": [1, 2, 20.9, 25], "labels": ["peace"], "rationale": "Calm."} | changed
        kept = {name: value for name, value in first.items() if value is not None}
        (tmp_path / "pool.jsonl").write_text(json.dumps(kept) + "\n")
        (tmp_path / "test.csv").write_text("image,x0,y0,x1,y1,labels\nb.png,1,2,30,25,Fear; Peace\n")
        return tmp_path

    return folder


def test_a_folder_of_ones_own(write: Write) -> None:
    people = data.load(str(write()))
    (pool,), (test,) = people.pool, people.test
    assert (pool.box, pool.labels, pool.rationale) == ((1, 2, 20, 25), ("Peace",), "Calm.")
    assert (test.box, test.labels, test.rationale) == ((1, 2, 30, 25), ("Fear", "Peace"), "")
    assert pool.look().size == (40, 30)
    assert data.load(str(write(labels="['Peace', 'Fear']"))).pool[0].labels == ("Peace", "Fear")
    assert len(data.load(str(write(labels=["Joy", "Anger"][1:])), "emotic").labels) == 26


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"image": "gone.png"}, "no picture .*gone.png"),
        ({"image": None}, "'image' is missing"),
        ({"image": "x" * 5000}, "no picture"),
        ({"rationale": 3}, "'rationale' is no text"),
        ({"box": [1, 2, 3]}, "not four numbers"),
        ({"box": [1, 2, 3, float("nan")]}, "not four numbers"),
        ({"box": "1234"}, "not four numbers"),
        ({"box": [9, 2, 3, 8]}, "right must be more than left"),
        ({"box": None}, "not four numbers"),
        ({"labels": ["Pease"]}, "'Pease' is not known; did you mean 'Peace'"),
        ({"labels": []}, "no list with at least one label"),
        ({"labels": "[1"}, "are no list"),
        ({"labels": None}, "no list with at least one label"),
        ({"image": "b.png", "box": [1, 2, 30, 25]}, "would be shown with the answer"),
    ],
)
def test_what_is_wrong_in_a_folder_is_said_with_its_line(write: Write, changed: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        data.load(str(write(**changed)))
    assert "pool.jsonl" in str(error.value)


def test_a_box_beside_the_picture_and_a_broken_picture_are_said_when_they_are_looked_at(write: Write) -> None:
    person = data.load(str(write(box=[50, 0, 60, 10]))).pool[0]
    with pytest.raises(UsageError, match=r"a.png .* is not in the picture, which is 40 x 30"):
        person.look()
    people = data.load(str(write()))
    (write() / "a.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"a\.png"):
        people.pool[0].look()


@pytest.mark.parametrize("lost", ["pool.jsonl", "test.csv", "labels.txt"])
def test_a_folder_that_lacks_a_file(write: Write, lost: str) -> None:
    folder = write()
    (folder / lost).unlink()
    with pytest.raises(UsageError, match=lost.split(".")[0]):
        data.load(str(folder))


@pytest.mark.parametrize("text", ['{"image": ', "[1]", "", "\n\n"])
def test_lines_that_are_no_persons(write: Write, text: str) -> None:
    folder = write()
    (folder / "pool.jsonl").write_text(text)
    with pytest.raises(HeroError, match=r"write a line a person"):
        data.load(str(folder))


def test_a_table_without_a_column(write: Write) -> None:
    folder = write()
    (folder / "test.csv").write_text("image,x0,y0,x1,labels\nb.png,1,2,3,Fear\n")
    with pytest.raises(UsageError, match="lacks the columns y1"):
        data.load(str(folder))


def test_figures_are_drawn_and_have_their_own_labels() -> None:
    people = data.load("figures", limit=2, pool=3)
    assert (len(people.test), len(people.pool), len(people.labels)) == (2, 3, 8)
    assert people.pool[0].look().size in {(384, 288), (288, 384), (384, 384)}
    with pytest.raises(UsageError, match="data of your own"):
        data.load("figures", "heco")


def test_a_clip_in_a_folder_sees_what_the_models_own_sees(tmp_path: Path) -> None:
    made = tiny.make()
    own = retrieve.find(None, made.model, made.processor)
    own.clip.save_pretrained(tmp_path)
    own.images.save_pretrained(tmp_path)
    theirs = retrieve.find(str(tmp_path), made.model, made.processor)
    people = data.load("figures", limit=2, pool=3)
    ours, again = own.look(people.pool), theirs.look(people.pool)
    assert torch.allclose(ours.bodies, again.bodies, atol=1e-6)
    alone = retrieve.Views(
        *(torch.cat(rows) for rows in zip(*(vars(own.look([one])).values() for one in people.pool), strict=True))
    )
    assert torch.allclose(ours.contexts, alone.contexts, atol=1e-5)  # who stands beside is nothing
    assert not torch.allclose(ours.bodies, ours.contexts, atol=1e-3)


def test_a_model_without_a_clip_says_what_to_give() -> None:
    made = tiny.make()
    relevance._found.pop(made.model, None)
    made.model.config.herovlm_clip = None
    with pytest.raises(SetupError, match="give --retriever"):
        retrieve.find(None, made.model, made.processor)
    with pytest.raises(ModelError, match="is no CLIP on this machine"):
        retrieve.find("nowhere", made.model, made.processor)
