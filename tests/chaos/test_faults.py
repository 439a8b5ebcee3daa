"""Tests that fault points and safeguards patch parts of the runtime that exist."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ARM = """
from tests.chaos import faults
from tests.chaos.actors import ACTORS
for point in (*faults.POINTS, *faults.DEAD_LETTERING):
    faults.arm(list(ACTORS.values()), point, 1)
"""

SWITCH_OFF = """
from tests.chaos.safeguards import SAFEGUARDS, switch_off
for safeguard in SAFEGUARDS:
    switch_off(safeguard)
"""


@pytest.mark.parametrize("program", [ARM, SWITCH_OFF], ids=["every fault point", "every safeguard"])
def test_patches_apply_to_the_runtime(program: str) -> None:
    """Each program runs in a process of its own, because its patches last."""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
