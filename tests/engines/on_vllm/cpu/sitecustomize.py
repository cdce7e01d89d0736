"""Put on PYTHONPATH where vLLM runs without a GPU: a torchvision that was built for CUDA can be imported there too.

vLLM imports it, and starts processes of its own that do.  Its operators are declared and never run.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from typing import Any

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class Declaring(importlib.abc.MetaPathFinder):
    """Declares the operators just before torchvision is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Find torchvision as if we were not there."""
        if name != "torchvision":
            return None
        sys.meta_path.remove(self)
        import torch

        library = torch.library.Library("torchvision", "DEF")
        for schema in SCHEMAS:
            library.define(schema)
        sys.modules["torchvision_declared"] = library  # type: ignore[assignment]  # it must not go away
        return importlib.util.find_spec(name)


sys.meta_path.insert(0, Declaring())
