"""Weights of the groups, fused features, balance and projected features of the authors' IGVA."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from herovlm.modules import fusion
from herovlm.towers import recording


class Given(nn.Module):
    """A block whose states are known."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states

    def forward(self) -> Tensor:
        return self.states


@torch.no_grad()
def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Compare; a picture is one tile here, and the uniform mean has no aggregator."""
    given = {name: torch.from_numpy(x) for name, x in case.items() if x.dtype.kind == "f" and x.ndim}
    states, groups = given["hidden_states"], json.loads(str(case["groups"]))
    blocks = [Given(one) for one in states[1:]]
    with recording.group_means(blocks, groups) as means:
        for block in blocks:
            block()
    layers = recording.stacked(means)
    weights, wanted = torch.full((len(layers), len(groups)), 1 / len(groups)), {}
    if not case["average"]:
        aggregator = aggregator_of(case, {k[6:]: x for k, x in given.items() if k.startswith("state/")}, len(groups))
        weights = aggregator(given["sentence"], layers[:, :, 0])
        balance = fusion.balance(weights, twice=True)
        wanted = {"weights": weights, "balance_loss": balance, "group_cls": layers[:, :, 0]}
    plain = states[int(case["base_layer"])][:, 1:]
    found = wanted | {"fused": fusion.fused(plain, layers, weights)}
    found["projected"] = projected(found["fused"], {k[10:]: x for k, x in given.items() if k.startswith("projector/")})
    return [name for name, x in found.items() if not np.allclose(x, case[name], rtol=1e-5, atol=2e-6)]


def aggregator_of(case: Mapping[str, np.ndarray], state: Mapping[str, Tensor], groups: int) -> fusion.Aggregator:
    """Load the authors' weights under their names."""
    (width, sentence), channels = state["sentence_proj.weight"].shape, state["cls_proj.weight"].shape[1]
    made = fusion.Aggregator(sentence, channels, width, groups, int(case["num_blocks"]), int(case["num_heads"]))
    made.load_state_dict(dict(state))
    return made


def projected(fused: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Project as one linear map or an MLP: the widened half is read last."""
    if "weight" in weights:
        return nn.functional.linear(fused, weights["weight"], weights["bias"])
    for layer in sorted({int(name.split(".")[0]) for name in weights}):
        fused = nn.functional.gelu(fused) if layer else fused
        fused = nn.functional.linear(fused, weights[f"{layer}.weight"], weights[f"{layer}.bias"])
    return fused
