"""What is built can be installed and run: the package works without its source tree."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tree import ROOT, SRC, need_demo_model, project_files

import herovlm

LARGEST = 60e6  # bytes of the wheel
CORE = {"torch", "transformers", "safetensors", "numpy", "pillow", "jinja2", "typer", "rich", "pyyaml"}
NOT_SHIPPED = {".ci/run", ".gitignore"}  # what an unpacked archive has no use for
OFFLINE = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
IMPORT_ALL = """
import herovlm, pkgutil
for found in pkgutil.walk_packages(herovlm.__path__, "herovlm."):
    if found.name.endswith("__main__"):
        continue
    try:
        __import__(found.name)
    except ModuleNotFoundError as missing:  # what only lmms-eval and vLLM themselves import
        own = ("eval.lmms.model", "lmms_eval"), ("engines.vllm.processing", "vllm"), ("engines.vllm.served", "vllm")
        if (found.name.removeprefix("herovlm."), missing.name) not in own:
            raise
print(herovlm.__file__)
"""


@dataclass(frozen=True)
class Installed:
    """An environment of its own that holds the wheel."""

    folder: Path

    def run(self, *words: str | Path, cwd: Path) -> str:
        line = [self.folder / "bin" / words[0], *words[1:]]
        done = subprocess.run(line, cwd=cwd, env=CLEAN, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive and the wheel made from it."""
    out = tmp_path_factory.mktemp("dist")
    call([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT])
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An empty environment with the wheel; the other packages are lent by the environment of the tests.

    A folder named in a .pth file comes last on the path and its own .pth files are not read, so a herovlm that the
    tests' environment has, also an editable one, cannot stand in for the wheel.
    """
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    python = folder / "bin/python"
    call([sys.executable, "-m", "pip", "--python", python, "install", *OFFLINE, wheel])
    (site,) = folder.glob("lib/python*/site-packages")
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "lent.pth").write_text("\n".join(sorted(lent)) + "\n", "utf-8")
    return Installed(folder)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not re.match(r"herovlm-[\w.]+\.dist-info/", name)}
    assert names == {str(path.relative_to(SRC)) for path in project_files() if SRC / "herovlm" in path.parents}
    assert {"herovlm/py.typed", "herovlm/api.py", "herovlm/viz/templates/page.html.j2"} <= names


def test_the_wheel_holds_the_demo_model(wheel: Path) -> None:
    need_demo_model()
    sizes = {info.filename: info.file_size for info in zipfile.ZipFile(wheel).infolist()}
    weights = {name: size for name, size in sizes.items() if name.endswith(".safetensors")}
    assert any(name.startswith("herovlm/demo/weights/") for name in weights)
    assert all(size > 100_000 for size in weights.values()), "pointers instead of weights"


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size <= LARGEST


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    about = metadata(wheel)
    assert about["Name"] == "herovlm"
    assert about["Version"] == herovlm.__version__
    assert about["License-Expression"] == "Apache-2.0"
    assert str(about.get_payload()) == (ROOT / "README.md").read_text("utf-8")
    needed = [Requirement(line) for line in about.get_all("Requires-Dist", [])]
    assert {each.name for each in needed if not each.marker} == CORE, "a light core"


def test_pins_are_what_the_package_asks_for(wheel: Path) -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.lower().replace("_", "-").split("==") for line in lines if line and line[0] != "#")
    for each in map(Requirement, metadata(wheel).get_all("Requires-Dist", [])):
        if each.name == "vllm":  # has an environment of its own, tests/engines/on_vllm/requirements.txt
            continue
        assert each.specifier.contains(pins.get(each.name, "0")), f"constraints.txt does not pin {each}"


def test_the_source_archive_holds_the_project(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {str(path.relative_to(ROOT)) for path in project_files()} - NOT_SHIPPED == names - {"PKG-INFO", ".gitignore"}


def test_every_module_imports_from_the_wheel(installed: Installed, tmp_path: Path) -> None:
    where = Path(installed.run("python", "-W", "error", "-c", IMPORT_ALL, cwd=tmp_path).strip())
    assert installed.folder in where.parents


def test_the_command_knows_its_version(installed: Installed, tmp_path: Path) -> None:
    assert installed.run("herovlm", "--version", cwd=tmp_path) == f"herovlm {herovlm.__version__}\n"


def test_the_demo_runs_from_the_wheel(installed: Installed, tmp_path: Path) -> None:
    need_demo_model()
    told = json.loads(installed.run("herovlm", "demo", "--json", cwd=tmp_path))
    assert "<svg" in (tmp_path / told["html"]).read_text("utf-8")
    positions = [[answer["positions"] for answer in asked["answers"]] for asked in told["questions"]]
    assert positions
    assert all(some < full for full, some in positions)


def metadata(wheel: Path) -> Message:
    """The METADATA of a wheel."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(opened.read(name))


def call(line: Sequence[str | Path]) -> None:
    done = subprocess.run(line, env=CLEAN, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
