"""The authors' ViTCoP inside the language model: clusters merge, then the shortest keys stay."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from herovlm.methods.inside.vitcop import VitCopLlm
from replays import _inside

LAYERS = 32  # of the authors' code, whatever the model


def stages_inside(case: Mapping[str, np.ndarray]) -> list[str]:
    """Stages II and III, from the stage-I clusters of the case: names of the arrays that differ."""
    before, after = torch.from_numpy(case["text_before"]), torch.from_numpy(case["text_after"])
    hidden = torch.cat([before, torch.from_numpy(case["stage1_features"]), after])[None]
    visual = torch.arange(len(before), hidden.shape[1] - len(after))
    keep = float(case["overall_ratio"]) / float(case["encoder_keep"])
    method = VitCopLlm(keep=keep, merge="code", positions="code")
    counts = method.plan(len(visual), LAYERS)
    (shallow, first), (deep, second) = counts.items()
    clusters = torch.from_numpy(case["cluster_labels"])
    keys = {shallow: torch.from_numpy(case["keys_layer1"]), deep: torch.from_numpy(case["keys_layer21"])}
    two = _inside.ask(method, shallow, LAYERS, visual, first, keys=keys[shallow], groups=clusters)
    all_columns = _inside.all_columns(torch.ones(1, hidden.shape[1], dtype=torch.bool))
    left, states = _inside.go_on(all_columns, hidden, [visual], [two])
    mean = VitCopLlm(keep=keep, merge="mean")
    plain = _inside.ask(mean, shallow, LAYERS, visual, first, keys=keys[shallow], groups=clusters)
    span = torch.arange(len(before), len(before) + len(two.keep))
    three = _inside.ask(method, deep, LAYERS, span, second, keys=keys[deep])
    last, sequence = _inside.go_on(left, states, [span], [three])
    assert two.merged is not None
    assert two.weights is not None
    assert last.places is not None
    owner = torch.empty(len(visual), dtype=torch.long)
    owner[two.keep] = torch.arange(len(two.keep))
    for place, weights in zip(two.merged.nonzero().flatten(), two.weights, strict=True):
        owner[weights > 0] = place
    return _inside.wrong(
        {
            "n_stage2": (first, case["n_stage2"]),
            "n_stage3": (second, case["n_stage3"]),
            "stage2_kept": (two.keep, case["stage2_kept"]),
            "stage2_merged": (two.merged, case["stage2_merged"]),
            "stage2_owner": (owner, case["stage2_owner"]),
            "stage2_visual": (states[0, span], case["stage2_visual"]),
            "stage2_visual_meanmerge": (
                _inside.go_on(all_columns, hidden, [visual], [plain])[1][0, span],
                case["stage2_visual_meanmerge"],
            ),
            "stage2_position_ids": (left.index[0], case["stage2_position_ids"]),
            "stage3_kept": (three.keep, case["stage3_kept"]),
            "stage3_position_ids": (last.places[0], case["stage3_position_ids"]),
            "stage3_true_position_ids": (last.index[0], case["stage3_true_position_ids"]),
            "stage3_sequence": (sequence[0], case["stage3_sequence"]),
        },
        close=("stage2_visual", "stage2_visual_meanmerge", "stage3_sequence"),
    )
