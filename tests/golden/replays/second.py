"""SECOND: maps, shares and masks of every stage and token, and the contrast of the stages."""

from __future__ import annotations

from pathlib import Path

import torch
from replay import Case

from herovlm.ops import pyramid
from herovlm.ops.contrast import contrasted


def differences(case: Case, _path: Path) -> list[str]:
    """Names of arrays that differ: indices and counts by anything, numbers by more than rounding."""
    arrays = {name: torch.from_numpy(array) for name, array in case.items()}
    found: list[str] = []
    for token in range(int(arrays["n_tokens"])):
        found += _token(arrays, token)
    return found


def _token(arrays: dict[str, torch.Tensor], token: int) -> list[str]:
    stages, grids = arrays["stages"].tolist(), [(g, g) for g in arrays["grids"].tolist()]
    mixed = [_mixed(arrays[f"vit_attention_{stage}"]) for stage in range(len(stages) - 1)]
    masks, wrong = [torch.ones(grids[-1], dtype=torch.bool)], []
    for stage, steepness in enumerate(arrays["lambdas"].tolist()):
        at = f"t{token}_s{stage}_"
        counts = [len(pyramid.kept(mask, grid)) for mask, grid in zip(masks, grids, strict=False)]
        weight = pyramid.weights(arrays[f"{at}llm_rows"].mean(1)[:, None], torch.zeros(1, dtype=torch.long))[0]
        start = int(arrays["prefix_len"])
        shares = torch.split(weight[start : start + sum(counts)], counts)
        heat = pyramid.heat(shares, mixed[: stage + 1], masks, grids[: stage + 1], stages[0])
        asked = pyramid.asked(heat, steepness)
        masks.append(asked.mask)
        same = {
            "map": torch.allclose(heat, arrays[f"{at}map"], rtol=1e-4, atol=1e-6),
            "entropy": abs(asked.entropy - float(arrays[f"{at}entropy"])) < 1e-5,
            "p": abs(asked.share - float(arrays[f"{at}p"])) < 1e-5,
            "rank": int(heat.numel() * asked.share) == int(arrays[f"{at}rank"]),
            "next_mask": torch.equal(asked.mask, arrays[f"{at}next_mask"]),
            "next_kept": torch.equal(pyramid.kept(asked.mask, grids[stage + 1]), arrays[f"{at}next_kept"]),
        }
        wrong += [f"{at}{name}" for name, equal in same.items() if not equal]
    counts = [len(pyramid.kept(mask, grid)) for mask, grid in zip(masks, grids, strict=True)]
    final = contrasted(arrays[f"t{token}_logits"][:, None], arrays["alphas"].tolist(), 20)[0]
    same = {
        f"t{token}_counts": counts == arrays[f"t{token}_counts"].tolist(),
        f"t{token}_final": torch.allclose(final, arrays[f"t{token}_final"], rtol=1e-5, atol=1e-4),
        "tokens": int(final.argmax()) == int(arrays["tokens"][token]),
    }
    return [*wrong, *(name for name, equal in same.items() if not equal)]


def _mixed(attention: torch.Tensor) -> torch.Tensor:
    """Mean over all blocks but the last, (blocks, H, 1 + N, 1 + N) -> (N, N)."""
    return pyramid.mixing(attention[:-1]).mean(0)
