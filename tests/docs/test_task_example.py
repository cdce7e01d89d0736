"""The task that docs/eval.md explains is the one beside it."""

from __future__ import annotations

from tree import ROOT

from herovlm.demo import scenes
from herovlm.eval import samples, task

TASK = ROOT / "docs/task"


def test_the_page_shows_the_file() -> None:
    assert (TASK / "questions.jsonl").read_text("utf-8") in (ROOT / "docs/eval.md").read_text("utf-8")


def test_its_answers_are_right() -> None:
    (picture,) = samples.asked(task.load(str(TASK / "task.yaml"))).pictures
    image, found = picture.read()
    scene = scenes.make(2)
    assert image.tobytes() == scene.image.tobytes()
    right = {question.text: question.answer for question in scene.questions}
    assert all(right[sample.question] == sample.answers[0] for sample in found)
    assert [sample.name for sample in found] == ["1", "2", "purple"]
