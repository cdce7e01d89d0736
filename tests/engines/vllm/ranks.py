"""Answers of vLLM on two ranks, printed as JSON: `python ranks.py [--deaf]`.

With --deaf the ranks are not told what the first one saw: the control that shows whether a test would notice.
"""

from __future__ import annotations

import json
import os
import sys

os.environ |= {"VLLM_WORKER_MULTIPROC_METHOD": "fork"}  # what is changed here is changed in the ranks

from answers import boards, engine, shipped, there

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"
CASES = boards(3, (0.4, 0.1))

if __name__ == "__main__":
    if "--deaf" in sys.argv:
        from vllm.distributed.parallel_state import GroupCoordinator

        GroupCoordinator.broadcast = lambda self, given, src=0: given if self.rank_in_group == src else given * 0
    with engine(shipped(), "hero", 0.4, tensor_parallel_size=2, block_size=32) as llm:
        sys.stdout.write("\n" + json.dumps([[own.prompt, *own.ids] for own in there(llm, shipped(), CASES)]) + "\n")
