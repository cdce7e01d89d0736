"""Write trained parts as a folder that the library reads: `python -m training.age_vlm.export --out runs/age_vlm`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from herovlm import auto, demo
from herovlm.modules import stored
from training.age_vlm import data
from training.age_vlm.train import GUIDANCE, PICTURES, ROWS, Stage


def main(arguments: Sequence[str] | None = None) -> None:
    """Write one folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/age_vlm"), help="where training.age_vlm.train wrote")
    parser.add_argument("--memory", default="dropped", choices=("dropped", "kept", "all"))
    parser.add_argument("--weights", type=Path, default=stored.WEIGHTS / "age_vlm", help="folder to write")
    args = parser.parse_args(arguments)
    model, processor = demo.load()
    stage = Stage(model, processor.tokenizer, args.memory)
    state = torch.load(args.out / args.memory / "last.pt", weights_only=True)
    stage.load_state_dict(state["model"])
    trained = {"steps": state["step"], "rows": PICTURES * ROWS, "keep": data.KEEP, "methods": list(data.METHODS)}
    trained |= {"guidance": GUIDANCE, "recipe": "training/age_vlm"}
    stored.save(args.weights, stored.Stored(stage.parts, args.memory, auto.fingerprint(model), trained))
    gates = {
        layer: [round(float(g.detach().tanh()), 3) for g in (part.gate, part.mlp_gate)]
        for layer, part in stage.parts.items()
    }
    print(json.dumps({"gates": gates, "bytes": (args.weights / stored.FILE).stat().st_size}))


if __name__ == "__main__":
    main()
