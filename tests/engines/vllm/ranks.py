"""Answers of vLLM on two ranks, as JSON: `python ranks.py FILE [--deaf]`.

With --deaf the ranks are not told what the first one saw: the control that shows whether a test would notice.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from answers import boards, engine, shipped, there

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"
CASES = boards(3, (0.4, 0.1))

if "--deaf" in sys.argv:  # the ranks import this file too
    from vllm.distributed.parallel_state import GroupCoordinator

    GroupCoordinator.broadcast = lambda self, given, src=0: given if self.rank_in_group == src else given * 0

if __name__ == "__main__":
    with engine(shipped(), "hero", 0.4, tensor_parallel_size=2, block_size=32) as llm:
        found = [[own.prompt, *own.ids] for own in there(llm, shipped(), CASES)]
    Path(sys.argv[1]).write_text(json.dumps(found), "utf-8")
