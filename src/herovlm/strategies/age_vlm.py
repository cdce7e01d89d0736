"""AGE-VLM: cross-attention between the layers of the LLM (arXiv 2511.17793); here, to the tokens that were dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from weakref import WeakKeyDictionary

from herovlm import auto
from herovlm.errors import ModelError, UnsupportedError
from herovlm.modules import stored
from herovlm.modules.recall import Recall
from herovlm.modules.stored import Stored
from herovlm.seams import refuse
from herovlm.stage import Stage
from herovlm.strategy import Strategy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from herovlm.request import Request

_loaded: WeakKeyDictionary[Any, dict[str, Stored]] = WeakKeyDictionary()  # parts move beside the layers of their model


@dataclass(frozen=True, kw_only=True)
class AgeVlm(Strategy):
    """Leaves what was dropped out of the prompt, and lets four layers of the LLM look it up by cross-attention.

    AGE-VLM puts gated cross-attention between the layers of a pretrained language model and teaches it by masks where
    to look; that the memory is what a method dropped is of this library.  Each prompt looks up tokens of its own
    pictures, for as long as the answer is written.  Where nothing was dropped nothing is changed.
    """

    name: ClassVar[str] = "age_vlm"
    paper: ClassVar[str] = "arXiv 2511.17793"
    fidelity: ClassVar[str] = "reconstruction"
    formula: ClassVar[str] = "h += tanh(g1) softmax(q(h) k(m) / sqrt(d)) v(m); h += tanh(g2) MLP(h); m = dropped tokens"
    published: ClassVar[str] = (
        "The authors' code and text are not public: the gates, the sizes, the places of the tokens, the mask's term of "
        "the loss and the memory are this library's."
    )
    first: ClassVar[str] = "hero"

    memory: Literal["dropped", "all", "kept"] = "dropped"  # what can be looked up; "kept" is the control
    weights: str = "age_vlm"  # of parts that come with the package, or a folder

    def check(self, model: PreTrainedModel, request: Request) -> None:
        """Check that the parts were made for this model.

        Raises:
            UsageError, SetupError: there are no such parts, or they are broken.
            ModelError: they belong to another model.
            UnsupportedError: nothing is dropped, or nothing can be put between the layers.
        """
        if request.method.smaller:
            raise UnsupportedError(f"{self} looks up what is dropped, and {request.method} sends another picture")
        self.stored(model)

    def stage(self, model: PreTrainedModel, request: Request) -> Stage:
        """Put the parts between the layers."""
        return Recall(model, self.stored(model).parts, self.memory)

    def stored(self, model: PreTrainedModel) -> Stored:
        """Read the parts, once a model.

        Raises:
            HeroError: as `check`.
        """
        depth, known = len(refuse.layers(model)), _loaded.setdefault(model, {})
        folder = stored.folder_of(self.weights)
        if str(folder) not in known:
            known[str(folder)] = stored.load(folder)
        found = known[str(folder)]
        shape, width = found.parts.shape, model.config.get_text_config().hidden_size
        if shape.hidden != width or max(shape.layers) >= depth:
            raise ModelError(
                f"weights={self.weights!r} stand before layers {', '.join(map(str, shape.layers))} of a language model "
                f"of width {shape.hidden}; this one has {depth} layers of width {width}"
            )
        if not auto.same(found.model, model):
            raise ModelError(
                f"weights={self.weights!r} were trained in another model of this shape, with other weights; "
                "training/age_vlm/README.md says how to train some for yours"
            )
        return found
