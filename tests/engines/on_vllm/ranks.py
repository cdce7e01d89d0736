"""Answers of vLLM on two ranks, as JSON: `python ranks.py FILE`.

The second half of them comes when the ranks are no longer told what the first one saw: the control that shows whether a
test would notice.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from answers import boards, engine, shipped, there

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_ALLOW_INSECURE_SERIALIZATION": "1"}
TOLD, UNTOLD = boards(3, (0.4, 0.1)), boards(3, (0.3, 0.15))


def deafen(worker: Any) -> None:
    """Let a rank go on with nothing in the place of what it is told."""
    from vllm.distributed.parallel_state import GroupCoordinator

    GroupCoordinator.broadcast = lambda self, given, src=0: given if self.rank_in_group == src else given * 0


if __name__ == "__main__":
    with engine(shipped(), "hero", 0.4, tensor_parallel_size=2, block_size=32) as llm:
        found = there(llm, shipped(), TOLD)
        llm.collective_rpc(deafen)
        found += there(llm, shipped(), UNTOLD)
    Path(sys.argv[1]).write_text(json.dumps([[own.prompt, *own.ids] for own in found]), "utf-8")
