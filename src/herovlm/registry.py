"""The one list of methods and of model families: name -> "module:Class", loaded when asked for.

Third parties add theirs as entry points of the groups `herovlm.methods`, `herovlm.inside` and `herovlm.strategies`
(name = its own) and `herovlm.families` (name = `config.model_type`); names of ours cannot be taken over.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from herovlm.errors import MethodError, ModelError, UsageError

if TYPE_CHECKING:
    from herovlm.families.base import Family
    from herovlm.methods.base import Method
    from herovlm.methods.fields import Described
    from herovlm.methods.inside.base import Inside
    from herovlm.strategy import Strategy

METHODS = {
    "hero": "herovlm.methods.hero:Hero",
    "hero_plus": "herovlm.methods.hero_plus:HeroPlus",
    "full": "herovlm.methods.full:Full",
    "random": "herovlm.methods.random:Random",
    "downsample": "herovlm.methods.downsample:Downsample",
    "uniform": "herovlm.methods.uniform:Uniform",
    "cls_topk": "herovlm.methods.cls_topk:ClsTopK",
    "pool": "herovlm.methods.pool:Pool",
    "thumbnail": "herovlm.methods.thumbnail:Thumbnail",
    "vtc_cls": "herovlm.methods.vtc_cls:VtcCls",
    "fopru": "herovlm.methods.fopru:FoPru",
    "fastervlm": "herovlm.methods.fastervlm:FasterVlm",
    "vispruner": "herovlm.methods.vispruner:VisPruner",
    "hired": "herovlm.methods.hired:Hired",
    "todre": "herovlm.methods.todre:ToDre",
    "divprune": "herovlm.methods.divprune:DivPrune",
    "scope": "herovlm.methods.scope:ScopePrune",
    "vscan": "herovlm.methods.vscan:VScan",
    "trim": "herovlm.methods.trim:Trim",
    "cdpruner": "herovlm.methods.cdpruner:CdPruner",
    "tops": "herovlm.methods.tops:Tops",
    "mmtok": "herovlm.methods.mmtok:MmTok",
    "vitcop": "herovlm.methods.vitcop:VitCop",
    "visionzip": "herovlm.methods.visionzip:VisionZip",
    "prumerge": "herovlm.methods.prumerge:PruMerge",
    "prumerge_plus": "herovlm.methods.prumerge_plus:PruMergePlus",
    "globalcom2": "herovlm.methods.globalcom2:GlobalCom2",
}
INSIDE = {  # methods that prune between the layers of the language model
    "fastv": "herovlm.methods.inside.fastv:FastV",
    "pyramiddrop": "herovlm.methods.inside.pyramiddrop:PyramidDrop",
    "vitcop_llm": "herovlm.methods.inside.vitcop:VitCopLlm",
    "todre_llm": "herovlm.methods.inside.todre:ToDreLlm",
    "tops_llm": "herovlm.methods.inside.tops:TopsLlm",
    "sparsevlm": "herovlm.methods.inside.sparsevlm:SparseVlm",
    "sparsevlm_plus": "herovlm.methods.inside.sparsevlm_plus:SparseVlmPlus",
}
STRATEGIES = {  # what an answer goes through besides one reading of its prompt
    "contrast": "herovlm.strategies.contrast:Contrast",
    "second": "herovlm.strategies.second:Second",
    "age_vlm": "herovlm.strategies.age_vlm:AgeVlm",
    "chain_of_spot": "herovlm.strategies.chain_of_spot:ChainOfSpot",
}
TESTED = ("5.18.0", "5.20.2", "5.24.0")  # releases of transformers that all tests of models run on
FAMILIES = {
    "llava_next": "herovlm.families.llava_next:LlavaNext",
    "llava": "herovlm.families.llava:Llava",
    "internvl": "herovlm.families.internvl:InternVL",
    "llava_onevision": "herovlm.families.llava_onevision:LlavaOnevision",
    "qwen2_5_vl": "herovlm.families.qwen_vl:QwenVL",
    "qwen2_vl": "herovlm.families.qwen_vl:Qwen2VL",
    "qwen3_vl": "herovlm.families.qwen_vl:Qwen3VL",
    "qwen3_vl_moe": "herovlm.families.qwen_vl:Qwen3VL",
    "qwen3_5": "herovlm.families.qwen_vl:Qwen35",
    "qwen3_5_moe": "herovlm.families.qwen_vl:Qwen35",
    "idefics3": "herovlm.families.idefics3:Idefics3",
    "smolvlm": "herovlm.families.idefics3:SmolVlm",
    "gemma3": "herovlm.families.gemma3:Gemma3",
    "mistral3": "herovlm.families.mistral3:Mistral3",
}


def methods() -> list[str]:
    """Names of all methods before the LLM, ours first."""
    return list(METHODS | _others("herovlm.methods") | METHODS)


def insides() -> list[str]:
    """Names of all methods inside the LLM, ours first."""
    return list(INSIDE | _others("herovlm.inside") | INSIDE)


def strategies() -> list[str]:
    """Names of all strategies, ours first."""
    return list(STRATEGIES | _others("herovlm.strategies") | STRATEGIES)


def families() -> list[str]:
    """Model types (`config.model_type`) of all supported families, ours first."""
    return list(FAMILIES | _others("herovlm.families") | FAMILIES)


def method(name: str) -> type[Method]:
    """Find the class of a method before the LLM.

    Raises:
        MethodError: no such method, or it cannot be loaded.
    """
    from herovlm.methods.base import Method

    found: type[Method] = _named(name, METHODS.get(name) or _others("herovlm.methods").get(name), Method)
    return found


def inside(name: str) -> type[Inside]:
    """Find the class of a method inside the LLM.

    Raises:
        MethodError: no such method, or it cannot be loaded.
    """
    from herovlm.methods.inside.base import Inside

    found: type[Inside] = _named(name, INSIDE.get(name) or _others("herovlm.inside").get(name), Inside)
    return found


def strategy(name: str) -> type[Strategy]:
    """Find the class of a strategy.

    Raises:
        MethodError: no such strategy, or it cannot be loaded.
    """
    from herovlm.strategy import Strategy

    found: type[Strategy] = _named(name, STRATEGIES.get(name) or _others("herovlm.strategies").get(name), Strategy)
    return found


def family(model: Any) -> Family:
    """Find the family of a model by its config.

    Raises:
        ModelError: the family is not supported, or cannot be loaded.
    """
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if not isinstance(kind, str):
        raise ModelError(f"{type(model).__name__} is not a transformers model: it has no config.model_type")
    where = FAMILIES.get(kind) or _others("herovlm.families").get(kind)
    if where is None:
        raise ModelError(
            f"{type(model).__name__}: the family {kind!r} is not supported{did_you_mean(kind, families())}"
        )
    found: Family = _load(where, ModelError)()
    return found


def outline(where: str) -> dict[str, str]:
    """Read the docstring ("doc") and the plain texts that a class of ours says of itself, from its source.

    Nothing is imported, so that a list of all methods needs no torch.  What a class does not say, its bases say.
    """
    module, _, name = where.partition(":")
    spec = find_spec(module)
    tree = ast.parse(Path(spec.origin).read_text("utf-8") if spec is not None and spec.origin else "")
    homes = {one.name: n.module for n in tree.body if isinstance(n, ast.ImportFrom) and n.module for one in n.names}
    found: dict[str, str] = {}
    for node in (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name):
        for base in (base.id for base in node.bases if isinstance(base, ast.Name)):
            home = homes.get(base, module)
            found |= outline(f"{home}:{base}") if home.startswith("herovlm.") else {}
        found["doc"] = ast.get_docstring(node) or ""
        for line in node.body:
            target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
            value = getattr(line, "value", None)
            if isinstance(target, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[target.id] = value.value
    return found


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Spell the end of an error about an unknown word: "; did you mean 'hero'? There are: ..."."""
    words = list(words)
    near = difflib.get_close_matches(word.lower(), words, 1)
    return (f"; did you mean {near[0]!r}?" if near else ".") + f" There are: {', '.join(words)}"


def _named(name: str, where: str | None, base: type[Described]) -> Any:
    """Load the class of a method and check that it is one, of this name."""
    if where is None:
        every = [*methods(), *insides(), *strategies()]
        raise MethodError(f"no method is called {name!r}{did_you_mean(name, every)}")
    found = _load(where, MethodError)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise MethodError(f"method {name!r} is {where}, which is not a subclass of {base.__module__}.{base.__name__}")
    if found.name != name:
        raise MethodError(f"method {name!r} is {where}, which calls itself {found.name!r}; the two names must be one")
    return found


def _others(group: str) -> dict[str, str]:
    """Entry points that other packages have installed."""
    return {point.name: point.value for point in metadata.entry_points(group=group)}


def _load(where: str, error: type[UsageError]) -> Any:
    """Import "module:Class"."""
    module, _, name = where.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as cause:
        raise error(f"{where} cannot be loaded: {cause}") from cause
