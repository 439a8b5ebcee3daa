"""The documents of the examples, made by a program of its own."""

import subprocess
import sys

from tests.contracts.examples import EXAMPLES
from tests.support.process import ROOT


def test_the_documents_of_every_example_are_right() -> None:
    command = [sys.executable, "-m", "tests.contracts.examples"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.splitlines() == [f"{name}: right" for name in EXAMPLES]
    assert "counter" in EXAMPLES and "mailer" in EXAMPLES
