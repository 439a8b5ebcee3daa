"""promtool from Debian's package `prometheus`. get.sh gets it, not a test."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")

Promtool = Callable[..., str]
"""Runs promtool with arguments, and returns its output. A failure fails the test."""


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    """Find promtool on the PATH, or in the user's cache."""
    binary = shutil.which("promtool") or str(CACHE / "actorloom" / "promtool" / "promtool")
    if not os.access(binary, os.X_OK):
        pytest.skip("promtool is not here: `make test-alerts` gets it from Debian's package prometheus, by apt-get")

    def run(*arguments: str | Path) -> str:
        ran = subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True, timeout=50, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    return run
