"""Answer the questions of a task without lmms-eval, one at a time: FOLDER WEIGHTS '[["hero", 0.2], null]' -> JSON.

A pair is `herovlm.drop`, null the plain model.  It runs in the environment of lmms-eval, whose libraries may differ.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoProcessor, LlavaNextForConditionalGeneration

import herovlm

folder, weights, plans = sys.argv[1:]
model = LlavaNextForConditionalGeneration.from_pretrained(weights).eval()
processor = AutoProcessor.from_pretrained(weights)


def answer(doc: Any, plan: Any) -> dict[str, Any]:
    content = [{"type": "image"} for _ in doc["pictures"]] + [{"type": "text", "text": doc["question"]}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs: Any = processor(images=[Image.open(path) for path in doc["pictures"]], text=text, return_tensors="pt")
    if plan is not None:
        how = {"question": doc["question"], "processor": processor}
        inputs = herovlm.drop(model, inputs, method=plan[0], keep=plan[1], **how)
    read = inputs["input_ids"].shape[1]
    new = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, read:]
    return {"text": processor.decode(new, skip_special_tokens=True).strip(), "read": read}


docs = [json.loads(line) for line in (Path(folder) / "docs.jsonl").read_text("utf-8").splitlines()]
print(json.dumps([[answer(doc, plan) for doc in docs] for plan in json.loads(plans)]))
