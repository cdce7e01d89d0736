"""One resumable training loop for every stage: progress, log, checkpoints."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Step = Callable[[Any], tuple[Tensor, dict[str, float]]]


def rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then half a cosine down to 2 % of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    along = (step - warmup) / max(1, steps - warmup)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, along))))


def run(
    name: str,
    model: nn.Module,
    batches: Callable[[int], Iterator[Any]],
    steps: int,
    peak: float,
    out: Path,
    horizon: int | None = None,
    warmup: int = 150,
    half: bool = True,
    save: int = 400,
    muon: bool = True,
) -> None:
    """Train `model` (its forward gives loss and accuracies) for `steps`, resuming from the last checkpoint in `out`.

    The learning rate falls as if there were `horizon` steps (default `steps`).  `half` computes in bfloat16, which is
    slow on processors that have no instructions for it.  There is a checkpoint every `save` steps.  Without `muon`
    AdamW trains the matrices of the LLM too.
    """
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    device = trained[0].device.type
    optimisers = _optimisers(model, peak, muon)
    start, spent = 0, 0.0
    if (folder / "last.pt").exists():
        state = torch.load(folder / "last.pt", weights_only=True)
        model.load_state_dict(state["model"])
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        start, spent = state["step"], state["seconds"]
    if start >= steps:
        return
    model.train()
    began, mean = time.time() - spent, {}
    for step, batch in zip(range(start, steps), batches(start), strict=False):
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = rate(step, horizon or steps, peak, warmup) * group.get("times", 1)
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss, seen = model(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        for key, value in (seen | {"loss": loss.item()}).items():
            if not math.isnan(value):
                mean[key] = 0.97 * mean.get(key, value) + 0.03 * value
        if step % 50 == 49 or step + 1 == steps:
            line = {"stage": name, "step": step + 1, "of": steps, "minutes": round((time.time() - began) / 60, 2)}
            line |= {key: round(value, 4) for key, value in mean.items()}
            print(json.dumps(line), flush=True)
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
        if step % save == save - 1 or step + 1 == steps:
            state = {
                "model": model.state_dict(),
                "optimisers": [optimiser.state_dict() for optimiser in optimisers],
                "step": step + 1,
                "seconds": time.time() - began,
            }
            torch.save(state, folder / "new.pt")
            (folder / "new.pt").rename(folder / "last.pt")


def _optimisers(model: nn.Module, peak: float, muon: bool) -> list[torch.optim.Optimizer]:
    """Muon for matrices inside the LLM's layers, AdamW for all else; gates, which start at 0, go ten times faster."""
    inner, matrices, vectors, gates = [], [], [], []
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            within = muon and "language_model.layers" in name and weight.ndim == 2
            gate = name.rpartition(".")[2] in ("gate", "mlp_gate")
            (inner if within else gates if gate else matrices if weight.ndim > 1 else vectors).append(weight)
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    groups += [{"params": gates, "weight_decay": 0.0, "times": 10}] if gates else []
    found: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.97), fused=True)]
    if inner:
        found.append(torch.optim.Muon(inner, lr=peak, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"))
    return found
