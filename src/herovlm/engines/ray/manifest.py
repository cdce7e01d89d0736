"""The manifest of a batch: which picture is asked what, one row an id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from herovlm.errors import InputsError, shortened

COLUMNS = ("id", "image", "question")
KINDS = (".parquet", ".csv", ".jsonl")


@dataclass(frozen=True)
class Row:
    """One question about one picture."""

    id: str
    image: str  # absolute path, or as it stands in the manifest where it is a name of a cluster's own
    question: str


def read(path: Path) -> list[Row]:
    """Read a manifest: Parquet, CSV or JSONL with the columns id, image and question; others are left alone.

    Paths of pictures are read from the folder of the manifest.

    Raises:
        InputsError: no such file, a kind that is not known, a column or a value that is missing, an id that is there
            twice, or no row at all.
    """
    if path.suffix.lower() not in KINDS:
        raise InputsError(f"{path} is no manifest; give a file of the kind {', '.join(KINDS)}")
    if not path.is_file():
        raise InputsError(f"there is no file {path}; give a manifest with the columns {', '.join(COLUMNS)}")
    try:
        found = _jsonl(path) if path.suffix.lower() == ".jsonl" else _table(path)
    except InputsError:
        raise
    except Exception as error:  # pyarrow has errors of many kinds
        raise InputsError(f"{path} cannot be read ({str(error).strip().splitlines()[0][:200]})") from error
    rows = [_row(one, number, path) for number, one in enumerate(found, 1)]
    if not rows:
        raise InputsError(f"{path} has no rows; give one for each question")
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        if row.id in seen:
            raise InputsError(f"{path}: rows {seen[row.id]} and {number} have the same id {shortened(row.id)}")
        seen[row.id] = number
    return rows


def digest(rows: Sequence[Row]) -> str:
    """Name what the rows ask, whatever their order."""
    lines = sorted(json.dumps(asdict(row), sort_keys=True) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _jsonl(path: Path) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.strip():
            try:
                one = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputsError(f"{path}, line {number} is not JSON ({error.msg})") from None
            if not isinstance(one, dict):
                raise InputsError(f"{path}, line {number} is {shortened(one)}; expected an object with {COLUMNS}")
            found.append(one)
    return found


def _table(path: Path) -> list[Mapping[str, Any]]:
    import pyarrow.csv
    import pyarrow.parquet

    if path.suffix.lower() == ".parquet":
        table = pyarrow.parquet.read_table(path)
    else:  # as text: the id 007 is not the number 7
        names = pyarrow.csv.open_csv(path).schema.names
        types = {name: pyarrow.string() for name in names}
        how = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False)
        table = pyarrow.csv.read_csv(
            path, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True), convert_options=how
        )
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise InputsError(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(table.column_names) or 'none'}"
        )
    found: list[Mapping[str, Any]] = table.select(COLUMNS).to_pylist()
    return found


def _row(given: Mapping[str, Any], number: int, path: Path) -> Row:
    """Check one row."""
    said = {}
    for name in COLUMNS:
        value = given.get(name)
        if name == "id" and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            raise InputsError(f"{path}, row {number}: {name} is {shortened(value)}; expected a text")
        said[name] = value
    image = Path(said["image"]).expanduser()
    return Row(said["id"], str(image if image.is_absolute() else path.parent.resolve() / image), said["question"])
