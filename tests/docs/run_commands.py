"""Run several `herovlm` commands, given as JSON, in one process; stop at the first that fails."""

from __future__ import annotations

import json
import sys

from herovlm.cli import session
from herovlm.cli.main import run

session.RUNS = 1  # nobody reads these times
for words in json.loads(sys.argv[1]):
    sys.argv = words
    try:
        run()
    except SystemExit as end:
        if end.code:
            sys.exit(f"{' '.join(words)}: exit code {end.code}")
