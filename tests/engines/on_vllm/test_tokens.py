"""vLLM with the plugin answers as one process does, token for token."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM has an environment of its own; CI makes one")

from answers import Case, boards, engine, here, shipped, there, wide
from PIL import Image
from transformers import AutoModelForImageTextToText

from herovlm.demo import scenes

pytestmark = pytest.mark.filterwarnings("default")
KEEP = 0.4  # of the engine; requests ask for it or less


@pytest.fixture(scope="module")
def llm() -> Iterator[Any]:
    with engine(shipped(), "hero", KEEP, block_size=32, enable_prefix_caching=True, enable_mm_embeds=True) as made:
        yield made


def test_sixty_triples_are_answered_as_in_one_process(llm: Any) -> None:
    cases = boards(10, (0.4, 0.2, 0.05))
    assert len(cases) == 60
    found = there(llm, shipped(), cases)
    assert [(i, own) for i, own in enumerate(found)] == [
        (i, here(shipped(), case, "hero")) for i, case in enumerate(cases)
    ]


def test_another_question_about_a_picture_gets_tokens_of_its_own(llm: Any) -> None:
    """Both stand in the same prompt, so that nothing but the question that is told can tell them apart."""
    scene = scenes.make(3)
    case = Case(scene.image, scene.questions[0].text, 0.05)
    named = [item.name for item in scene.items]
    asked = [f"Where is the {name}?" for name in named[:6]]
    found = [there(llm, shipped(), [case], herovlm_question=question)[0] for question in asked]
    again = [there(llm, shipped(), [case], herovlm_question=question)[0] for question in asked]
    assert found == again
    assert found == [told(case, question) for question in asked]


def told(case: Case, question: str) -> Any:
    """Answer in this process a prompt whose pictures are chosen from by another question."""
    import herovlm

    served = shipped()
    inputs = served.processor(images=[case.image], text=[served.chat(case.question)], return_tensors="pt")
    short = herovlm.drop(served.model, inputs, keep=case.keep, question=question)
    out = served.model.generate(**short, do_sample=False, max_new_tokens=10)
    return short["input_ids"].shape[1], tuple(out[0, short["input_ids"].shape[1] :].tolist())


def test_a_budget_above_the_engines_own_is_refused_and_it_lives_on(llm: Any) -> None:
    case = boards(1, (0.2,))[0]
    with pytest.raises(ValueError, match="started for"):
        there(llm, shipped(), [case._replace(keep=0.9)])
    assert there(llm, shipped(), [case]) == [here(shipped(), case, "hero")]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"mm_processor_kwargs": {"herovlm_question": "where? " * 2000}}, "give at most 10,000"),
        ({"multi_modal_data": {"image": torch.zeros(1, 5, 256)}}, "send the picture"),
    ],
)
def test_what_cannot_be_read_is_refused_and_it_lives_on(llm: Any, given: dict[str, Any], says: str) -> None:
    case = boards(1, (0.2,))[0]
    with pytest.raises(ValueError, match=says):
        llm.generate(
            {"prompt": shipped().chat("?"), "multi_modal_data": {"image": case.image}, **given}, use_tqdm=False
        )
    assert there(llm, shipped(), [case]) == [here(shipped(), case, "hero")]


def test_pictures_are_cut_as_the_models_folder_says() -> None:
    with (
        pytest.raises(Exception, match="leave it out"),
        engine(shipped(), "hero", KEEP, mm_processor_kwargs={"image_grid_pinpoints": [[192, 192]]}),
    ):
        pass


def test_a_picture_that_cannot_be_looked_at_harms_no_other(llm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from herovlm.engines.vllm import eyes

    true, bad = eyes.Eyes.look, "Which of these is wrong?"

    def look(self: Any, pictures: Any, asked: Any) -> Any:
        if any(one.question == bad for one in asked):
            raise RuntimeError("as if a kernel failed")
        return true(self, pictures, asked)

    monkeypatch.setattr(eyes.Eyes, "look", look)
    cases = boards(3, (0.2,))
    found = there(llm, shipped(), [*cases, cases[0]._replace(question=bad)])
    assert found[:-1] == [here(shipped(), case, "hero") for case in cases]
    assert len(found[-1].ids) > 0


def test_a_wrong_number_of_positions_ends_no_engine(llm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from herovlm.engines.vllm import eyes

    true = eyes.Eyes.look
    cases = boards(2, (0.2, 0.1))
    for cut in (slice(0, -3), slice(0, 0)):
        monkeypatch.setattr(eyes.Eyes, "look", lambda *given, cut=cut: [own[cut] for own in true(*given)])
        llm.reset_mm_cache()
        llm.reset_prefix_cache()
        assert len(there(llm, shipped(), cases, herovlm_question=f"cut {cut}")) == len(cases)
    monkeypatch.setattr(eyes.Eyes, "look", true)
    assert there(llm, shipped(), cases) == [here(shipped(), case, "hero") for case in cases]


def test_chunked_prefill_and_a_method_that_reads_no_question() -> None:
    """A step reads at most 192 positions: prompts are cut, through pictures; a picture is one to all questions."""
    cases = boards(3, (0.4, 0.2))
    how = {"enable_chunked_prefill": True, "max_num_batched_tokens": 192, "max_model_len": 512}
    with engine(shipped(), "hero(alpha=1)", KEEP, **how) as llm:
        assert there(llm, shipped(), cases) == [here(shipped(), case, "hero(alpha=1)") for case in cases]


def info(served: Any, **settings: Any) -> Any:
    """What vLLM's front end is told about a model, without an engine."""
    from herovlm.engines.vllm.processing import Info

    config = copy.deepcopy(served.model.config)
    config.herovlm = settings
    context = SimpleNamespace(
        model_config=SimpleNamespace(model=str(served.folder)),
        get_mm_config=lambda: SimpleNamespace(mm_processor_kwargs=None),
        get_hf_config=lambda: config,
        get_hf_processor=lambda **_: served.processor,
    )
    return Info(context)


def test_engines_that_keep_otherwise_share_no_cache() -> None:
    told = [{}, {"keep": 0.2}, {"keep": 0.4}, {"method": "random", "keep": 0.4}, {"tokens": 4}]
    assert len({info(shipped(), **one).model_id for one in told}) == len(told)
    assert str(shipped().folder) in info(shipped()).model_id


def test_memory_is_sized_for_the_largest_picture_there_can_be(tmp_path: Path) -> None:
    """Also where a processor cuts a picture into more tiles than most."""
    served = wide("internvl", tmp_path)
    found = []
    for most in (4, 50):
        served.processor.image_processor.max_patches = most
        served.processor.save_pretrained(tmp_path)
        size = info(served._replace(model=AutoModelForImageTextToText.from_pretrained(tmp_path)), keep=1.0)
        size = size.get_image_size_with_most_features()
        found.append(size.width * size.height)
    side = served.model.config.vision_config.image_size[0]
    assert found == [4 * side * side, 50 * side * side]


@pytest.mark.parametrize(("name", "method"), [("internvl", "fastervlm"), ("llava_onevision", "divprune")])
def test_other_families_are_answered_as_in_one_process(name: str, method: str, tmp_path: Path) -> None:
    served = wide(name, tmp_path)
    sizes = [(64, 64), (100, 64), (300, 40), (61, 33), (40, 300)]
    noise = [Image.effect_noise(size, 90).convert("RGB") for size in sizes]
    cases = [Case(image, "What is it?", keep) for image in noise for keep in (0.5, 0.2)]
    with engine(served, method, 0.5) as llm:
        found = there(llm, served, cases)
    assert found == [here(served, case, method) for case in cases]
    assert len(set(found)) > 3  # it looks at the pictures
