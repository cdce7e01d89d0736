"""SECOND end to end on the demo model: stages, what is read of each, and the contrast of what they say."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import tiny_models
import torch

import herovlm
from herovlm import demo, registry
from herovlm.api import answered
from herovlm.demo import scenes
from herovlm.errors import MethodError, UnsupportedError
from herovlm.ops import pyramid
from herovlm.ops.contrast import contrasted
from herovlm.prompt.template import prompt
from herovlm.request import Request
from herovlm.seams.hooks import Hook
from herovlm.strategies import scales
from herovlm.strategies.second import Second
from herovlm.types import Seen
from herovlm.view import see

HOW = {"do_sample": False, "max_new_tokens": 8, "pad_token_id": 0}
SEEDS = (3, 4, 6)  # pictures of 1 x 2, 2 x 2 and 1 x 3 tiles, two of them with padding


@pytest.fixture(scope="module")
def ready():
    return demo.load()


@pytest.fixture(scope="module")
def inputs(ready):
    _, processor = ready
    boards = [scenes.make(seed) for seed in SEEDS]
    asked = [prompt(processor, board.questions[k].text) for k, board in enumerate(boards)]
    how = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
    return processor(images=[[board.image] for board in boards], text=asked, **how)


def strong(refresh: str = "first") -> str:
    """Read a good part of each stage, and not all: the maps of this tower are flat."""
    return f"second(lambdas=150.0, alphas=(0.3, 0.5, 0.8), refresh={refresh!r})"


def one(inputs, row: int):
    return {name: value[row : row + 1] for name, value in inputs.items()}


def said(model, inputs, spec: str, **how):
    """New tokens, and the record."""
    with herovlm.decoding(model, spec) as record:
        out = model.generate(**inputs, **{**HOW, **how})
    return out[:, inputs["input_ids"].shape[1] :], record


def clean(model) -> bool:
    """Whether nothing of ours is left."""
    left = [hook for m in model.modules() for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    return "generate" not in vars(model) and not any(isinstance(hook, Hook) for hook in left)


@pytest.fixture(scope="module")
def climbed(ready, inputs):
    """Climbs of the prompts, the prompts, and the scores of their stages: of `strong`."""
    model, _ = ready
    request = Request.of(f"full + {strong()}", keep=1.0)
    choice = see(model, inputs, request).choose(request)
    prompts = scales.seen([(choice, row) for row in range(3)], (-2, -1, 0, 1))

    def run(short, *, processors=(), streams=1, new_tokens=None):
        out = model.generate(**{**HOW, "max_new_tokens": new_tokens, **short}, logits_processor=list(processors))
        return out[:, short["input_ids"].shape[1] :]

    none = torch.empty(3, 0, dtype=torch.long)
    climbs, scores = prompts.climb(run, (150.0,) * 3, range(3), none)
    last = prompts.short(range(3), climbs, [4], none)
    return climbs, prompts, torch.stack([*scores, scales.scored(run, last)]), last


def test_the_grids_are_those_of_the_picture(climbed) -> None:
    climbs, _, _, _ = climbed
    sides = [[level.sides for level in climb.levels] for climb in climbs]
    sizes = [scenes.make(seed).image.size for seed in SEEDS]
    for own, (wide, high) in zip(sides, sizes, strict=True):
        assert own == [(2, 2), (4, 4), (8, 8), (high // 24, wide // 24)]


def test_the_prompt_of_a_stage_reads_its_patches_behind_those_of_the_coarser_ones(climbed) -> None:
    climbs, _, _, last = climbed
    sent = last["mm_encoder_outputs"]["image"].pooler_output
    for climb, own in zip(climbs, sent, strict=True):
        parts = torch.split(own, climb.counts)
        for part, level, mask in zip(parts, climb.levels, climb.masks, strict=True):
            read = pyramid.resized(mask, level.sides)  # row by row
            assert torch.equal(part, level.features.view(*level.sides, -1)[read])


@pytest.mark.parametrize("refresh", ["first", "every"])
def test_the_first_token_is_that_of_the_contrast_of_the_stages(ready, inputs, climbed, refresh) -> None:
    model, _ = ready
    climbs, _, scores, _ = climbed
    new, record = said(model, inputs, strong(refresh), max_new_tokens=1)
    assert torch.equal(new[:, 0], contrasted(scores, (0.3, 0.5, 0.8), 20).argmax(-1))
    assert [fact["kept"] for fact in record.facts] == [climb.counts for climb in climbs]
    left_out = [len(climb.levels[-1].features) - climb.counts[-1] for climb in climbs]
    assert min(left_out) > 0


def test_each_step_is_the_contrast_of_all_stages_behind_what_was_said(ready, inputs, climbed) -> None:
    model, _ = ready
    climbs, prompts, _, _ = climbed
    new, _ = said(model, inputs, strong())
    for step in range(new.shape[1]):
        before = new[:, :step]
        stages = []
        for stage in range(1, 5):
            with torch.no_grad():
                stages.append(model(**prompts.short(range(3), climbs, [stage], before)).logits[:, -1])
        best = contrasted(torch.stack(stages), (0.3, 0.5, 0.8), 20)
        for row in range(3):
            if 3 not in before[row]:
                assert best[row, new[row, step]] >= best[row].max() - 1e-3


def test_without_weight_it_is_greedy_on_the_last_stage(ready, inputs, climbed) -> None:
    model, _ = ready
    *_, last = climbed
    plain = model.generate(**{**HOW, **last})[:, last["input_ids"].shape[1] :]
    for alphas in ("0.0", "1e-9"):  # the second with all its streams
        new, record = said(model, inputs, f"second(lambdas=150.0, alphas={alphas})")
        assert torch.equal(new, plain)
        assert [fact["passes"] for fact in record.facts] == [4 if alphas == "0.0" else 7] * 3


def test_everything_kept_is_the_whole_pyramid(ready, inputs) -> None:
    model, _ = ready
    _, record = said(model, one(inputs, 0), "second(lambdas=-60.0)", max_new_tokens=1)
    assert record.facts[0]["kept"] == [4, 16, 64, 128]
    assert record.facts[0]["share"] == [1.0, 1.0, 1.0]


def test_positions_are_those_of_all_passes(ready, inputs) -> None:
    model, processor = ready
    for refresh, dies in (("first", False), ("every", True)):
        request = Request.of(f"full + second(refresh={refresh!r})", keep=1.0, processor=processor)
        choice = see(model, inputs, request).choose(request)
        found = answered([(choice, row) for row in range(3)], **HOW)
        for positions, fact, new in zip(found.positions, found.facts, found.new, strict=True):
            a, b, c, d = fact["kept"]
            up = 3 * a + 2 * b + c
            tokens = int((new != 0).sum())
            if dies:
                assert fact["passes"] == 4 * tokens
                assert tokens > 1 or positions == up + a + b + c + d
            else:
                assert (fact["passes"], positions) == (7, 2 * up + a + b + c + d)


def test_a_prompt_does_not_depend_on_its_neighbours(ready, inputs) -> None:
    model, _ = ready
    for refresh in ("first", "every"):
        batch, facts = said(model, inputs, strong(refresh), max_new_tokens=3)
        for row in (0, 2):
            alone, record = said(model, one(inputs, row), strong(refresh), max_new_tokens=3)
            both = zip(batch[row][batch[row] != 0].tolist(), alone[0][alone[0] != 0].tolist(), strict=True)
            assert all(a == b for a, b in both)
            assert record.facts[0] == facts.facts[row]


def test_local_tiles_are_one_grid_without_padding(ready) -> None:
    model, _ = ready
    for size in ((384, 288), (576, 192), (192, 480)):
        seen = seen_of(model, size)
        level = scales._tiles(seen)
        rows, columns = level.sides
        found = level.features.view(rows, columns, 2)
        assert torch.equal(found[:, 1:, 1] - found[:, :-1, 1], torch.ones(rows, columns - 1)), "neighbours stand so"
        assert torch.equal(found[1:, :, 0] - found[:-1, :, 0], torch.ones(rows - 1, columns))
        assert rows * columns == int(seen.grid.local(seen.valid).sum())


def test_nothing_stays_also_after_an_error(ready, inputs) -> None:
    model, _ = ready
    given = one(inputs, 0)

    def fail(_ids, _scores):
        raise RuntimeError("stop")

    for refresh in ("first", "every"):
        with pytest.raises(RuntimeError, match="stop"):
            said(model, given, f"second(refresh={refresh!r})", logits_processor=[fail])
        assert clean(model)
    assert said(model, given, "second")[0].shape[0] == 1
    assert clean(model)


@pytest.mark.parametrize(
    "spec",
    [
        "second(stages=(0,))",
        "second(stages=(-2, 0))",
        "second(stages=(1, 2))",
        "second(stages=(1, 0))",
        "second(lambdas=(1.0,))",
        "second(alphas=(0.1, 0.2, 0.3, 0.4))",
        "second(top=0)",
        "second(refresh='last')",
    ],
)
def test_bad_specs_are_refused(spec: str) -> None:
    with pytest.raises(MethodError):
        herovlm.parse(spec)


def test_what_makes_no_sense_is_refused(ready, inputs, models) -> None:
    model, processor = ready

    def refused(match: str, model=model, spec: str = "second", **how) -> None:
        with pytest.raises(UnsupportedError, match=match), herovlm.decoding(model, spec, **how):
            pass

    refused("chooses by itself", method="hero", keep=0.2)
    refused("without newlines", positions="original")
    refused("without newlines", newlines="all")
    refused("nothing is left", spec="second(stages=(-4, -3))")
    refused("CLIP tower", tiny_models.load("internvl").model)
    with pytest.raises(MethodError):
        herovlm.parse("full + fastv + second")
    two = processor(
        images=[[scenes.make(3).image, scenes.make(4).image]],
        text=[prompt(processor, "Is there a red star?", 2)],
        return_tensors="pt",
    )
    with pytest.raises(UnsupportedError, match="one picture a prompt"):
        said(model, two, "second")
    made = models("llava")
    single = made.inputs([[tiny.picture(60, 60)]], ["<image> a red cat"])
    with pytest.raises(UnsupportedError, match="end the stages at 0"):
        said(made.model, single, "second")
    assert clean(model)


def test_one_tile_ends_at_the_thumbnail(models) -> None:
    made = models("llava")
    single = made.inputs([[tiny.picture(60, 60)]], ["<image> a red cat"])
    new, record = said(made.model, single, "second(stages=(-1, 0))", max_new_tokens=2)
    assert new.shape[1] <= 2
    assert record.facts[0]["kept"][1] <= made.model.config.vision_config.image_size**2


def test_a_strategy_is_a_spec() -> None:
    made = herovlm.parse("second(stages=(0, 1), alphas=0.1)")
    assert str(made) == "full + second(stages=(0, 1), alphas=0.1)"
    assert dataclasses.replace(Second(), refresh="every").steps("lambdas") == (1.0, 1.0, 1.0)


def seen_of(model, size: tuple[int, int]) -> Seen:
    """A picture (width, height) whose local features are the row and column of each patch on the canvas."""
    (geometry,) = registry.family(model).geometry(model, [size[::-1]])
    (rows, columns), side = geometry.grid.tiles, geometry.grid.side
    where = torch.stack(torch.meshgrid(torch.arange(rows * side), torch.arange(columns * side), indexing="ij"), -1)
    local = torch.stack([geometry.grid.cut(where[..., part]) for part in (0, 1)], -1).float()
    features = torch.cat((torch.zeros(1, side**2, 2), local))
    return Seen(geometry.grid, geometry.valid, features, counted=geometry.counts)
