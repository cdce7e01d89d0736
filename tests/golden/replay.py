"""Replay golden cases through the public method objects: python tests/golden/replay.py FILE.npz|DIR.

The file name chooses the method.  Prints `cases=… equal=…`; exit 0 all equal, 1 any difference, 2 unknown file.
A new method is one function `name(arrays of a case, path) -> names of the arrays that differ` in REPLAYS; a folder is
one case, its arrays in case.npz.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from grids import make_grid

from herovlm.methods.hero import Hero
from herovlm.types import Kept, Seen

Case = Mapping[str, np.ndarray]


def hero_selection(case: Case, path: Path) -> list[str]:
    """Budgets, masks and number of positions of the authors' HERO."""
    low, high = torch.from_numpy(case["low_rows"]), torch.from_numpy(case["high_rows"])  # (L, K, H, N+1), (L, H, N+1)
    none = torch.zeros_like(low[0])  # the thumbnail has no low rows, the local tiles no high ones
    blocks = {b: torch.cat([none[:1], rows])[..., 1:] for b, rows in enumerate(low)}  # each (T, H, N)
    for b, rows in enumerate(high, start=len(low)):
        blocks[b] = torch.cat([rows[None], none])[..., 1:]
    valid = torch.from_numpy(case["valid_mask"])
    rows, cols = (int(n) for n in case["grid_hw"])
    side = round(valid.shape[1] ** 0.5)
    canvas = valid.view(rows, cols, side, side).any(1).any(-1).flatten()  # canvas rows that un-padding keeps
    seen = Seen(
        make_grid(rows, cols, side, canvas),
        torch.cat([torch.ones_like(valid[:1]), valid]),
        attention=blocks,
        cls=torch.from_numpy(case["cls"]),
        relevance=torch.cat([torch.zeros(1), torch.from_numpy(case["clip_cosine"])]),
        depth=len(blocks),
    )
    method = Hero(
        variant="official",
        low_layers=tuple(range(len(low))),
        high_layers=tuple(range(len(low), len(blocks))),
        alpha=float(case["alpha"]),
        t_cls=float(case["T_cls"]),
        t_clip=float(case["T_clip"]),
    )
    share = float(case["R"])
    return compare_hero(method.keep(seen, max(1, round(share * seen.positions)), share=share), case)


def hero_e2e(case: Case, path: Path) -> list[str]:
    """Budgets, masks and number of positions of the authors' HERO, through the adapter and two tiny models."""
    from transformers import CLIPModel, CLIPVisionModel, LlavaNextConfig, LlavaNextForConditionalGeneration

    import herovlm
    from herovlm.adapters import relevance

    tower = CLIPVisionModel.from_pretrained(path / "vision_tower", attn_implementation="eager")
    words = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    config = LlavaNextConfig(
        vision_config=tower.config,
        text_config={"model_type": "llama", "num_attention_heads": 2, **words},
        image_token_index=5,
        vision_feature_layer=-2,
    )
    model = LlavaNextForConditionalGeneration(config).eval()
    model.model.vision_tower = tower
    clip = CLIPModel.from_pretrained(path / "clip", attn_implementation="eager")
    text = torch.from_numpy(case["text_ids"])
    relevance.attach(model, clip, lambda question, **how: {"input_ids": text})
    width, height = (int(n) for n in case["size_wh"])
    pixels = torch.from_numpy(case["pixel_values"]).float()  # (T, 3, 336, 336)
    inputs = {"pixel_values": pixels[None], "image_sizes": torch.tensor([[height, width]])}
    with torch.no_grad():
        sent = model.get_image_features(**inputs, return_dict=True).pooler_output[0]
    inputs["input_ids"] = torch.tensor([[1, *[5] * len(sent), 7]])
    method = Hero(
        variant="official",
        low_layers=tuple(int(n) for n in case["low_layers"]),
        high_layers=tuple(int(n) for n in case["high_layers"]),
        alpha=float(case["alpha"]),
        t_cls=float(case["T_cls"]),
        t_clip=float(case["T_clip"]),
    )
    short = herovlm.drop(model, inputs, method=method, keep=float(case["R"]), question="the one of text_ids")
    kept, features = short.kept[0], short["mm_encoder_outputs"]["image"].pooler_output[0]
    close = {
        "clip_cosine": short.seen[0].relevance[1:],
        "cls_saliency": kept.why["saliency"][1:],
        "clip_softmax": kept.why["relevance"][1:],
        "fused": kept.why["weight"][1:],
        "global_scores": kept.why["score"][0],
        "local_scores": kept.why["score"][1:],
    }
    far = [name for name, value in close.items() if not np.allclose(value, case[name], rtol=1e-4, atol=1e-6)]
    positions = int((short["input_ids"] == 5).sum())
    lost = [] if positions == len(features) == int(case["llm_tokens"]) else ["llm_tokens of the prompt"]
    return compare_hero(kept, case) + far + lost


def compare_hero(kept: Kept, case: Case) -> list[str]:
    """Names of the arrays in which a record of HERO differs from a golden case."""
    found = {
        "alloc": kept.granted[1:],
        "local_mask": kept.mask[1:],
        "global_mask": kept.mask[0],
        "llm_tokens": torch.tensor(kept.positions),
    }
    return [name for name, value in found.items() if not np.array_equal(value.cpu().numpy(), case[name])]


REPLAYS: dict[str, Callable[[Case, Path], list[str]]] = {"hero_selection": hero_selection, "hero_e2e": hero_e2e}


def cases(path: Path) -> dict[str, Case]:
    """Cases of one golden file, whose keys are `NN/array`, or of a folder."""
    if path.is_dir():
        with np.load(path / "case.npz") as arrays:
            return {"00": dict(arrays)}
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            number, name = key.split("/", 1)
            found.setdefault(number, {})[name] = arrays[key]
    return dict(sorted(found.items()))


def replay(path: Path) -> dict[str, list[str]]:
    """Differences of every case of a golden file or folder, by the case's number."""
    return {number: REPLAYS[path.stem](case, path) for number, case in cases(path).items()}


def main(arguments: list[str]) -> int:
    """Replay the one file named."""
    if len(arguments) != 1:
        print(f"usage: replay.py FILE.npz|DIR, one of: {', '.join(REPLAYS)}", file=sys.stderr)
        return 2
    path = Path(arguments[0])
    if path.stem not in REPLAYS or not path.exists():
        print(f"{path}: no such file, or no replay for it; there are: {', '.join(REPLAYS)}", file=sys.stderr)
        return 2
    results = replay(path)
    for number, differences in results.items():
        if differences:
            print(f"case {number} differs in {', '.join(differences)}")
    print(f"cases={len(results)} equal={sum(not d for d in results.values())}")
    return int(not results or any(results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
