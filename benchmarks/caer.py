"""Examples in context (CAER) on drawn figures: `python benchmarks/caer.py --json FILE|- [--small]`.

retrieval  how often the nearest example has the same feeling, by body, by surroundings and by both, and what a vote of
           the examples would say; chance is one of eight
budgets    the prompt with its examples under several budgets: positions, seconds to the first token, and how the first
           token's probabilities differ from those of the untouched prompt: Kullback-Leibler divergence in nats, and
           whether the most likely token is the same

The demo model was trained on boards: what it says about figures is chance, and only how far dropping moves it is told.
Seconds are the processor's own, of one thread, so that a busy machine disturbs them little.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers
from record import put

from herovlm import demo
from herovlm.eval import stats
from herovlm.eval.icl import data, retrieve, score
from herovlm.eval.icl.run import FULL, Config, Run
from herovlm.eval.icl.summary import accuracy
from herovlm.eval.metrics import mean
from herovlm.view import see

RANKED = (0.4, 0.2, 0.1, 0.05)
FEW = Config("hero", (0.1,))
CONFIGS = (
    FULL,
    *(Config("hero", (share,)) for share in (0.4, 0.2)),
    FEW,
    Config("hero", (0.05,)),
    Config("hero", RANKED),
    Config("random", (0.1,)),
    Config("uniform", (0.1,)),
)


def even(config: Config, shots: int) -> Config:
    """Make the same total, the picture that is asked about cut as much as the examples (were all of one size)."""
    share = round(float(np.mean(config.keep(shots))), 4)
    return Config(config.method, (share,), share)


def retrieval(people: data.People, retriever: retrieve.Retriever, shots: int) -> dict[str, Any]:
    """Look at everybody once, and rank in three ways."""
    asked, pool = retriever.look(people.test), retriever.look(people.pool)
    ways = {
        "both": (asked, pool),
        "body": tuple(retrieve.Views(one.bodies, one.bodies) for one in (asked, pool)),
        "surroundings": tuple(retrieve.Views(one.contexts, one.contexts) for one in (asked, pool)),
    }
    found = {}
    wanted = [one.labels for one in people.test]
    for name, (ours, theirs) in ways.items():
        shown = [[people.pool[i].labels for i in row] for row in retrieve.rank(ours, theirs, shots).tolist()]
        votes = [score.vote(labels, people.labels) for labels in shown]
        said = [score.best(vote, labels) for vote, labels in zip(votes, shown, strict=True)]
        found[name] = {
            "nearest": accuracy([float(s[0] == w) for s, w in zip(shown, wanted, strict=True)]),
            "vote": accuracy([float(s in w) for s, w in zip(said, wanted, strict=True)]),
            "map": round(score.mean_average_precision(votes, wanted, people.labels), 4),
        }
    return found


@torch.no_grad()
def budgets(run: Run, people: Sequence[data.Person]) -> dict[str, Any]:
    """Read the prompt of each person under every budget, in an order that turns."""
    pool = run.retriever.look(run.people.pool)
    configs, lines = list(run.configs), {str(config): [] for config in run.configs}
    for number, person in enumerate(people):
        prompt = run.prompt(person, run.examples(person, pool))
        requests = {config: config.request(run.shots, run.processor).on(run.model) for config in configs}
        start = time.process_time()
        view = see(run.model, prompt.inputs, *requests.values())
        look = time.process_time() - start
        logs: dict[Config, torch.Tensor] = {}
        turn = number % len(configs)
        for config in [*configs[turn:], *configs[:turn]]:
            start = time.process_time()
            short = view.drop(requests[config])
            logs[config] = run.model(**short, logits_to_keep=1).logits[0, -1].float().log_softmax(-1)
            spent = time.process_time() - start
            line = {"positions": sum(k.positions for k in short.kept), "of": sum(s.positions for s in short.seen)}
            lines[str(config)].append({**line, "length": short["input_ids"].shape[1], "look": look, "first": spent})
        for config in configs:
            apart = torch.nn.functional.kl_div(logs[config], logs[FULL], log_target=True, reduction="sum")
            same = bool(logs[config].argmax() == logs[FULL].argmax())
            lines[str(config)][-1] |= {"divergence": float(apart), "same": float(same)}
        sys.stderr.write(f"{number + 1} of {len(people)}\n")
    return {name: summed(of) for name, of in lines.items()}


def summed(lines: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Means, medians of seconds, and intervals over persons."""
    apart = np.array([[line["divergence"], 1.0] for line in lines])
    return {
        **{name: round(float(np.mean([line[name] for line in lines])), 1) for name in ("positions", "of", "length")},
        **{f"{name}_seconds": round(median(line[name] for line in lines), 4) for name in ("look", "first")},
        "divergence": round(float(apart[:, 0].mean()), 4),
        "divergence95": [round(end, 4) for end in stats.interval(apart, mean)],
        "same_first": accuracy([line["same"] for line in lines]),
    }


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what the options ask for."""
    model, processor = demo.load()
    people = data.load(data.FIGURES, limit=args.people, pool=args.pool)
    eye = retrieve.of_model(model, processor)
    how: dict[str, Any] = {"model": model, "processor": processor, "retriever": eye, "shots": args.shots}
    run = Run(people=people, name="demo", configs=(*CONFIGS, even(FEW, args.shots)), **how)
    return {
        "people": len(people.test),
        "pool": len(people.pool),
        "shots": args.shots,
        "retrieval": retrieval(people, eye, args.shots),
        "asked": args.asked,
        "budgets": budgets(run, people.test[: args.asked]),
    }


def main() -> None:
    """Read the options, measure, and write one JSON object."""
    how = {"description": __doc__, "formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(**how)
    parser.add_argument("--small", action="store_true", help="two persons: a few seconds")
    parser.add_argument("--people", type=int, help="who are looked for among the examples; 300")
    parser.add_argument("--asked", type=int, help="of them, about whom prompts are read; 30")
    parser.add_argument("--json", default="-", help="file to write, or - for standard output")
    args = parser.parse_args()
    args.pool, args.shots = (3, 1) if args.small else (None, 6)
    args.people, args.asked = args.people or (2 if args.small else 300), args.asked or (1 if args.small else 30)
    torch.set_num_threads(1)
    made = {
        "benchmark": "caer",
        "command": f"python benchmarks/caer.py --people {args.people} --asked {args.asked}",
        "small": args.small,
        "device": "cpu",
        "machine": platform.machine(),
        "clock": "processor",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        **measure(args),
    }
    put(args.json, made)


if __name__ == "__main__":
    main()
