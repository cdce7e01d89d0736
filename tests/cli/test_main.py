"""The command as a program of its own."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from saved import Cli

import herovlm

COMMANDS = ("demo", "ask", "compare", "methods", "models")


def program(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "herovlm", *words], capture_output=True, text=True, check=False)


def test_help_and_version_load_nothing_heavy() -> None:
    code = """
import sys
from herovlm.cli.main import app
for words in (["--help"], ["--version"], ["ask", "--help"]):
    try:
        app(words)
    except SystemExit as end:
        assert end.code == 0
assert not {"torch", "transformers", "numpy", "PIL", "jinja2"} & set(sys.modules), sorted(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"herovlm {herovlm.__version__}" in done.stdout


def test_wrong_use_of_the_program_ends_with_two() -> None:
    done = program("ask", "none.png", "what is it?")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "herovlm: there is no file none.png; check the path (it is read from the current directory)\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(cli: Cli, command: str) -> None:
    result = cli(command, "--help")
    assert result.exit_code == 0
    assert command in cli("--help").stdout
    text = re.sub(r"\x1b\[[\d;]*m", "", result.stdout)
    assert "--json" in text
    assert "Usage" in text
