"""AsyncAPI documents by the official parser, which npm installs once into the user's cache, as its lock file says."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from runtime.admin.discovery import Service
from runtime.contracts import asyncapi, plain
from runtime.contracts.title import title_of
from tests.contracts.examples import EXAMPLES
from tests.contracts.test_asyncapi_check import FAULTS
from tests.support.process import ROOT

pytestmark = [pytest.mark.asyncapi, pytest.mark.timeout(300)]

SOURCE = Path(__file__).with_name("npm")

Parse = Callable[[list[Path]], dict[str, list[str]]]
"""Returns the faults of files by name: errors and warnings of the parser."""


@pytest.fixture(scope="session")
def parse() -> Parse:
    for program in ("npm", "node"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: the official parser needs Node.js and npm")
    version = json.loads((SOURCE / "package.json").read_text())["dependencies"]["@asyncapi/parser"]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "actorloom" / f"asyncapi-{version}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run installs it
        if not (cache / "installed").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(SOURCE / name, cache)
            done = run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cache)
            if done.returncode:
                pytest.skip(f"npm cannot install @asyncapi/parser {version}: {done.stderr.strip()[-300:]}")
            (cache / "installed").touch()

    def faults(files: list[Path]) -> dict[str, list[str]]:
        done = run(["node", str(SOURCE / "check.mjs"), str(cache), *map(str, files)], ROOT)
        assert done.returncode == 0, done.stderr[-2000:]
        return {Path(name).stem: found for name, found in json.loads(done.stdout).items()}

    return faults


def run(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=240, check=False)


def write(directory: Path, documents: dict[str, dict[str, Any]]) -> list[Path]:
    files = [directory / f"{name}.json" for name in documents]
    for file, document in zip(files, documents.values(), strict=True):
        file.write_bytes(plain.write_json(document))
    return files


def test_the_parser_accepts_the_shop_the_examples_and_unusual_actors(
    parse: Parse, shop: list[Service], audited: list[Service], tmp_path: Path
) -> None:
    files = write(
        tmp_path, {name: asyncapi.document(each, title_of(each)) for name, each in (("shop", shop), ("odd", audited))}
    )
    assert run([sys.executable, "-m", "tests.contracts.examples", str(tmp_path)], ROOT).returncode == 0
    files += [tmp_path / f"{name}.json" for name in EXAMPLES]
    assert parse(files) == {name: [] for name in ("shop", "odd", *EXAMPLES)}


def test_the_parser_sees_some_faults_and_our_checks_see_the_others(
    parse: Parse, shop: list[Service], tmp_path: Path
) -> None:
    [orders] = [each for each in shop if each.name == "orders"]  # a small document is parsed in a tenth of the time
    right = asyncapi.document([orders], title_of([orders]))
    wrong = {make.__name__: deepcopy(right) for make, _ in FAULTS}
    for make, _ in FAULTS:
        make(wrong[make.__name__])
    accepted = {name for name, found in parse(write(tmp_path, wrong)).items() if not found}
    assert accepted == {
        "no_parameters",
        "wildcard",
        "question_mark",
        "channel_binding",
        "message_binding",
        "inline_channel",
        "server_binding",
        "two_reply_addresses",
        "new_keyword",
    }
