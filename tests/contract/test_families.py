"""What is true of every family, on a model and processor as people have them: found in `registry` and `tiny_models`.

The model's file in `tests/tiny_models` may say of itself

    positions    (model, inputs) -> position ids of the untouched prompt, where they are not the cumulated mask
    MASKING      False where masking is no oracle (layers that are not attention)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import tiny
import tiny_models
import torch
from tiny_models import Made
from torch import Tensor

import herovlm
from herovlm import registry
from herovlm.cost import shapes
from herovlm.families import idefics3
from herovlm.seams import compat
from herovlm.settle import working
from herovlm.types import Short
from herovlm.view import check

SIZES = [[(100, 64), (64, 64)], [(33, 61)], []]  # of the pictures of each prompt: several, one, none
TEXTS = ("Which of the two is it, say?", "What is it?", "Hi")
NEW = {"max_new_tokens": 6, "do_sample": False}
HERE = [name for name in registry.FAMILIES if name in tiny_models.here()]


@pytest.fixture(params=HERE)
def made(request: pytest.FixtureRequest) -> Made:
    if request.param == "smolvlm" and not idefics3._reads_any_number():
        pytest.skip("this release reads its features in groups: tests/families/test_idefics3.py")
    return tiny_models.load(request.param)


def batch(made: Made, side: str = "left", sizes: Any = SIZES, texts: Any = TEXTS) -> Any:
    pictures = [[tiny.picture(*size, seed=size[0]) for size in some] for some in sizes]
    chats = [made.chat(len(some), text) for some, text in zip(sizes, texts, strict=True)]
    return made.inputs(pictures, chats, side)


def one(made: Made, row: int = 0) -> Any:
    return batch(made, sizes=SIZES[row : row + 1], texts=TEXTS[row : row + 1])


def drop(made: Made, inputs: Any, method: Any = None, **how: Any) -> Short:
    amount = {} if "tokens" in how else {"keep": 0.3}
    return herovlm.drop(made.model, inputs, method=best(made) if method is None else method, **(amount | how))


def best(made: Made) -> str:
    """`hero`, or what its error says to write on this model."""
    try:
        check(made.model, herovlm.Request.of("hero"))
    except herovlm.UnsupportedError as error:
        return str(error).partition("write '")[2].partition("'")[0] or "random"
    return "hero(alpha=1)"  # no CLIP is attached to these


def new_tokens(made: Made, inputs: Any, **options: Any) -> Tensor:
    return made.model.generate(**inputs, **(NEW | options))[:, inputs["input_ids"].shape[1] :]


def logits(made: Made, inputs: Any, **more: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = made.model(**inputs, **more).logits
    return found


def numbers(made: Made, inputs: Any) -> Tensor:
    own = getattr(tiny_models.family(made.name), "positions", None)
    return (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0) if own is None else own(made.model, inputs)


def visual(made: Made, ids: Tensor) -> Tensor:
    return ids == made.image_token_id


def pooled(short: Short) -> Tensor:
    """The features of all images, in the order in which they are read."""
    parts = short["mm_encoder_outputs"]["image"].pooler_output
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])


def test_every_family_has_a_tiny_model() -> None:
    assert set(registry.FAMILIES) <= set(tiny_models.NAMES)
    assert HERE


@pytest.mark.parametrize("side", ["left", "right"])
def test_keep_all_is_the_untouched_model(made: Made, side: str) -> None:
    for inputs in (one(made), batch(made, side)):
        for method in (best(made), "random"):
            short = drop(made, inputs, method, keep=1.0)
            assert short.whole
            assert torch.equal(short["input_ids"], inputs["input_ids"])
            assert torch.equal(logits(made, short), logits(made, inputs))
            assert torch.equal(new_tokens(made, short), new_tokens(made, inputs))


def as_tensor(made: Made) -> bool:
    """Whether this release mixes up, for beams, features that the family has in one tensor."""
    pooled = drop(made, one(made), "random")["mm_encoder_outputs"]["image"].pooler_output
    return torch.is_tensor(pooled) and not compat.beams_keep_features_apart()


def encodes_first(made: Made, inputs: Any) -> bool:
    """Whether generate() encodes pictures before it repeats a prompt: who does not repeats rows of their patches."""
    kind, found = type(made.model), []
    repeat = kind._expand_inputs_for_generation
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            kind,
            "_expand_inputs_for_generation",
            lambda *given, **more: found.append("mm_encoder_outputs" in more) or repeat(*given, **more),
        )
        made.model.generate(**inputs, max_new_tokens=1)
    return found[0]


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}], ids=str)
def test_keep_all_with_beams_is_the_untouched_model(made: Made, options: Any) -> None:
    inputs = batch(made, sizes=SIZES[1:2] * 2, texts=TEXTS[:2])
    if as_tensor(made) or not encodes_first(made, inputs):
        pytest.skip("the untouched model mixes up its tiles or patches in this release")
    short = drop(made, inputs, keep=1.0)
    assert torch.equal(new_tokens(made, short, **options), new_tokens(made, inputs, **options))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("method", [None, "random(seed=3)"], ids=str)
def test_dropping_is_masking(made: Made, method: str | None, side: str) -> None:
    if not getattr(tiny_models.family(made.name), "MASKING", True):
        pytest.skip("masking is no oracle for layers that are not attention")
    inputs = batch(made, side)
    short = drop(made, inputs, method, positions="original")
    mask = torch.zeros_like(inputs["attention_mask"])
    for row, columns in enumerate(short.columns):
        mask[row, columns] = 1
    got = logits(made, short)
    want = logits(made, {**inputs, "attention_mask": mask}, position_ids=numbers(made, inputs))
    plain = logits(made, inputs)
    for row, columns in enumerate(short.columns):
        real = short["attention_mask"][row] != 0
        torch.testing.assert_close(got[row, real], want[row, columns], atol=2e-4, rtol=0)
        if SIZES[row]:
            assert (got[row, real][-1] - plain[row, columns][-1]).abs().max() > 1e-2  # the oracle can tell


@pytest.mark.parametrize("asked", [{"keep": 0.2}, {"keep": [0.5, 1.0, 0.1]}, {"tokens": 9}, {"tokens": 10**6}], ids=str)
def test_budgets_are_spent_exactly(made: Made, asked: Any) -> None:
    inputs = batch(made)
    full = [seen.positions for seen in drop(made, inputs, "random", keep=1.0).seen]
    assert [full[0] + full[1], full[2], 0] == made.count(inputs)
    short = drop(made, inputs, **asked)
    keep = asked.get("keep", 1)
    shares = keep if isinstance(keep, list) else [keep] * 3
    want = [min(asked.get("tokens", round(share * n)), n) for share, n in zip(shares, full, strict=True)]
    assert [kept.positions for kept in short.kept] == want
    image = visual(made, short["input_ids"])
    assert image.sum(1).tolist() == [want[0] + want[1], want[2], 0]
    assert tiny_models.rows(short["mm_encoder_outputs"]["image"].pooler_output) == sum(want)
    for seen, kept in zip(short.seen, short.kept, strict=True):
        assert not (kept.mask & ~seen.valid).any()
    text = (inputs["attention_mask"] == 1) & ~visual(made, inputs["input_ids"])
    for row in range(3):  # not a word is lost, and their order stays
        left = short["input_ids"][row][(short["attention_mask"][row] == 1) & ~image[row]]
        assert torch.equal(left, inputs["input_ids"][row][text[row]])


def test_every_method_that_is_said_to_work_does(made: Made) -> None:
    family = registry.family(made.model)
    inputs, offers = batch(made), family.offers(made.model)
    names = [name for name in working(family, offers) if registry.method(name)().needs(4).question is False]
    assert {"full", "random", "uniform", "divprune"} <= set(names)
    for name in names:
        short = drop(made, inputs, name)
        if registry.method(name)().exact and name != "full":
            assert [k.positions for k in short.kept] == [round(0.3 * s.positions) for s in short.seen], name
        assert torch.isfinite(logits(made, short)).all()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("keep", [0.3, 1.0])
def test_columns_and_origin_lead_back(made: Made, side: str, keep: float) -> None:
    inputs = batch(made, side)
    short = drop(made, inputs, "random", keep=keep)
    origin, mask = short.origin, short["attention_mask"] != 0
    for row, columns in enumerate(short.columns):
        assert torch.equal(inputs["input_ids"][row, columns], short["input_ids"][row][mask[row]])
        assert torch.equal(columns, columns.unique())
        assert torch.equal(origin.column[row][mask[row]], columns)
    image = visual(made, short["input_ids"])
    assert torch.equal(origin.image >= 0, image)
    places = torch.stack([x[image] for x in (origin.image, origin.tile, origin.patch)], -1)
    for feature, (i, tile, patch) in zip(pooled(short), places.tolist(), strict=True):
        want = short.seen[i].newline if tile < 0 else short.seen[i].features[tile, patch]
        assert want is not None
        assert torch.equal(feature, want)


def test_features_are_those_of_the_untouched_model(made: Made) -> None:
    inputs = batch(made)
    short = drop(made, inputs, "random")
    out = made.features(inputs).pooler_output
    plain = torch.cat([part.reshape(-1, part.shape[-1]) for part in out])
    at = visual(made, inputs["input_ids"]).nonzero()
    column = {(row, col): n for n, (row, col) in enumerate(at.tolist())}
    kept = [
        column[row, col]
        for row, columns in enumerate(short.columns)
        for col in columns.tolist()
        if (row, col) in column
    ]
    assert torch.equal(pooled(short), plain[kept])


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_side_stays(made: Made, side: str) -> None:
    short = drop(made, batch(made, side), "random")
    mask = short["attention_mask"]
    assert mask.sum(1).max() == mask.shape[1]
    assert (mask[:, 0 if side == "right" else -1] == 1).all()
    assert not visual(made, short["input_ids"])[mask == 0].any()


def test_an_image_does_not_depend_on_its_neighbours(made: Made) -> None:
    together, alone = drop(made, batch(made)), drop(made, one(made, 1))
    assert torch.equal(together.kept[2].mask, alone.kept[0].mask)
    torch.testing.assert_close(logits(made, together)[1, -1], logits(made, alone)[0, -1], atol=2e-4, rtol=0)


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}], ids=str)
def test_beams_of_a_batch_are_beams_of_its_prompts(made: Made, options: Any) -> None:
    if as_tensor(made):
        with herovlm.dropping(made.model, method="random", keep=0.3):
            with pytest.raises(herovlm.UnsupportedError, match="update transformers"):
                new_tokens(made, batch(made), **options)
            new_tokens(made, one(made), **options)
    how = {"tokens": 7} if as_tensor(made) else {"keep": 0.3}
    sizes = [SIZES[1], SIZES[1]] if as_tensor(made) else SIZES[:2]
    together = new_tokens(made, drop(made, batch(made, sizes=sizes, texts=TEXTS[:2]), **how), **options)
    for row in range(2):
        given = batch(made, sizes=sizes[row : row + 1], texts=TEXTS[row : row + 1])
        alone = new_tokens(made, drop(made, given, **how), **options)
        count, length = alone.shape
        assert torch.equal(together[row * count : (row + 1) * count, :length], alone)


def test_dropping_is_drop(made: Made) -> None:
    inputs = batch(made)
    want = new_tokens(made, drop(made, inputs))
    with herovlm.dropping(made.model, method=best(made), keep=0.3) as record:
        assert torch.equal(new_tokens(made, inputs), want)
        assert record.last is not None
        direct = logits(made, inputs)
    assert torch.equal(direct, logits(made, drop(made, inputs)))


def test_a_short_prompt_serves_many_calls_and_inputs_stay(made: Made) -> None:
    inputs = batch(made)
    before = {name: value.clone() for name, value in inputs.items()}
    short = drop(made, inputs)
    first, again = ([new_tokens(made, short, num_beams=beams) for beams in (1, 3)] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert before.keys() == inputs.keys()
    assert all(torch.equal(inputs[name], before[name]) for name in before)


def traces(made: Made) -> Any:
    """Hooks and attributes of the model and all its parts."""
    return {
        name: (len(part._forward_hooks), len(part._forward_pre_hooks), tuple(sorted(map(str, vars(part)))))
        for name, part in made.model.named_modules()
    }


def test_no_trace_is_left(made: Made) -> None:
    inputs = batch(made)
    new_tokens(made, inputs)
    before = traces(made)
    new_tokens(made, drop(made, inputs))
    with herovlm.dropping(made.model, method=best(made)):
        new_tokens(made, inputs)
    assert traces(made) == before
    with Broken(made), pytest.raises(RuntimeError, match="boom"):
        drop(made, inputs)
    assert traces(made) == before


class Broken:
    """A tower that breaks when it has run."""

    def __init__(self, made: Made) -> None:
        self.tower = registry.family(made.model).tower(made.model)

    def __enter__(self) -> None:
        def boom(*_: Any) -> None:
            raise RuntimeError("boom")

        self.handle = self.tower.register_forward_hook(boom)

    def __exit__(self, *_: Any) -> None:
        self.handle.remove()


def test_threads_do_not_mix(made: Made) -> None:
    prompts = [one(made, row) for row in (0, 1, 0, 1)]
    want, got = [drop(made, inputs).kept for inputs in prompts], {}

    def work(i: int) -> None:
        got[i] = drop(made, prompts[i]).kept

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, kept in enumerate(want):
        assert all(torch.equal(a.mask, b.mask) for a, b in zip(kept, got[i], strict=True))


@pytest.mark.parametrize("size", tiny_models.SIZES, ids=str)
def test_positions_are_counted_without_weights(made: Made, size: tuple[int, int]) -> None:
    asked = herovlm.Request.of("random", keep=0.3)
    (kept,) = drop(made, batch(made, sizes=[[size]], texts=["?"]), "random").kept
    assert herovlm.token_count(made.model.config, size[::-1], asked) == kept.positions
    full = tiny_models.family(made.name).TOKENS[size]
    assert herovlm.token_count(made.model.config, size[::-1], herovlm.Request.of("full", keep=1.0)) == full


@pytest.mark.parametrize("size", [(100, 64), (300, 40), (1000, 800)], ids=str)
def test_a_made_up_prompt_shows_a_picture_of_its_size(made: Made, size: tuple[int, int]) -> None:
    inputs, family = shapes.prompt(made.model, batch=2, size=size[::-1], text=8), registry.family(made.model)
    (told,) = family.geometry(family.shell(made.model.config), [size[::-1]])
    short = drop(made, inputs, "random", tokens=8)
    assert [seen.grid.tiles for seen in short.seen] == [told.grid.tiles] * 2
    assert torch.isfinite(logits(made, short)).all()


@pytest.mark.parametrize("size", tiny_models.SIZES, ids=str)
def test_a_call_and_a_size_have_the_same_geometry(made: Made, size: tuple[int, int]) -> None:
    (seen,) = drop(made, batch(made, sizes=[[size]], texts=["?"]), "random", tokens=8).seen
    family = registry.family(made.model)
    (told,) = family.geometry(family.shell(made.model.config), [size[::-1]])
    assert seen.grid.tiles == told.grid.tiles
    assert torch.equal(seen.valid, told.valid)
    assert torch.equal(seen.grid.order, told.grid.order)


def test_the_tower_runs_once(made: Made) -> None:
    runs: list[int] = []
    handle = registry.family(made.model).tower(made.model).register_forward_hook(lambda *_: runs.append(1))
    try:
        new_tokens(made, drop(made, batch(made)))
    finally:
        handle.remove()
    assert len(runs) == 1


def test_labels_are_gathered(made: Made) -> None:
    inputs = batch(made)
    short = drop(made, {**inputs, "labels": inputs["input_ids"]}, "random")
    for row, columns in enumerate(short.columns):
        real = short["attention_mask"][row] != 0
        assert torch.equal(short["labels"][row][real], inputs["input_ids"][row][columns])


def test_features_carry_no_gradient(made: Made) -> None:
    assert not pooled(drop(made, one(made))).requires_grad


def test_what_does_not_fit_is_an_error_before_the_tower_runs(made: Made) -> None:
    inputs = batch(made)
    runs: list[int] = []
    handle = registry.family(made.model).tower(made.model).register_forward_hook(lambda *_: runs.append(1))
    wrong: list[Callable[[], Any]] = [
        lambda: {**inputs, "pixel_values": inputs["pixel_values"][1:]},
        lambda: {**inputs, "pixel_values": inputs["pixel_values"].to("meta")},
        lambda: {**inputs, "input_ids": inputs["input_ids"].masked_fill(visual(made, inputs["input_ids"]), 1)},
        lambda: {**inputs, "pixel_values": None},
    ]
    try:
        for make in wrong:
            with pytest.raises(herovlm.HeroError):
                drop(made, make(), "random")
    finally:
        handle.remove()
    assert not runs


def test_a_view_is_asked_under_other_prompts(made: Made) -> None:
    inputs, asked = batch(made), herovlm.Request.of("random", keep=0.3)
    view = herovlm.see(made.model, inputs, asked)
    alone = one(made, 1)
    short = view.under(alone["input_ids"], alone["attention_mask"], [2]).drop(asked)
    torch.testing.assert_close(logits(made, short), logits(made, drop(made, alone, "random")), atol=2e-4, rtol=0)
