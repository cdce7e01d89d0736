"""`python -m herovlm` is the command `herovlm`."""

from herovlm.cli.main import run

run()
