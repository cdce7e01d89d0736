"""The words and tokens of a call."""

from herovlm.prompt.template import prompt

__all__ = ["prompt"]
