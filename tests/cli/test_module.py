"""`--module` puts a trained part on the model of ask, compare and eval, and what was answered says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_parts import made, written
from PIL import Image
from saved import Cli

import herovlm
from herovlm import modules
from herovlm.cli.load import load

QUESTION = "what is it?"


@pytest.fixture(scope="module")
def part(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fusion of the tiny model in `folder`."""
    model, _ = load(str(folder))
    return written(model, made(model), tmp_path_factory.mktemp("part") / "mine")


def test_ask_gives_what_the_library_gives_and_names_the_module(cli: Cli, folder: Path, photo: Path, part: Path) -> None:
    how = (photo, QUESTION, "--model", folder, "--keep", 0.5, "--max-new-tokens", 6, "--json", "--module", part)
    result = cli("ask", *how)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert "module: mine (question read by the CLIP text tower)" in found["model"]
    model, processor = load(str(folder))
    inputs = processor(images=[Image.open(photo)], text=[f"USER: <image>\n{QUESTION} ASSISTANT:"], return_tensors="pt")
    with modules.attach(model, part):
        short = herovlm.drop(model, inputs, keep=0.5, question=QUESTION)
        out = model.generate(**short, max_new_tokens=6, do_sample=False)[0, short["input_ids"].shape[1] :]
    assert (
        found["questions"][0]["answers"][0]["answer"]
        == processor.tokenizer.decode(out, skip_special_tokens=True).strip()
    )


def test_an_unknown_module_is_wrong_use(cli: Cli, folder: Path, photo: Path) -> None:
    found = cli("compare", photo, "what is it?", "--model", folder, "--module", "nowhere")
    assert found.exit_code == 2
    assert "there is no module 'nowhere'" in found.stderr


def test_eval_notes_it_beside_the_model(folder: Path, part: Path) -> None:
    from herovlm.eval.run import facts

    model, _ = load(str(folder), module=str(part))
    assert facts(model)["modules"] == ["mine (question read by the CLIP text tower)"]
    modules.on(model)[0].remove()
    assert "modules" not in facts(model)
