"""The check of histories by Porcupine, a Go program: each account must be linearizable."""

import asyncio
import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from tests.chaos.bank import Slip
from tests.chaos.bank_audit import BankVerdict
from tests.chaos.history import History

SOURCE = Path(__file__).parent / "linearizability"
CHUNK = 200
"""Operations of one chunk at most."""
TIMEOUT = 20.0
"""Seconds for the check of one chunk; one that takes longer has failed."""


class Unavailable(Exception):
    """Go is not installed, or cannot build the program."""


class Report(msgspec.Struct, rename="camel"):
    """The number of operations that were checked, and the chunks that are not linearizable or took too long."""

    checked: int
    illegal: list[str]
    timed_out: list[str]


async def check_linearizable(history: History, verdict: BankVerdict) -> Report:
    """Check the history of each account. `audit_bank` must have found the movements in `verdict`.

    An account is divided into chunks by version: the versions of two chunks do not overlap, and each chunk begins in the
    state that the chunk before it leaves. The order between chunks is checked by `History` for each answer.

    Raises:
        Unavailable: There is no Go.
    """
    program = await _build()
    document = {"timeout": TIMEOUT, "chunks": list(_chunks(history, verdict))}
    process = await asyncio.create_subprocess_exec(
        str(program), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate(msgspec.json.encode(document))
    if process.returncode:
        raise RuntimeError(f"the check of linearizability ended with {process.returncode}")
    return msgspec.json.decode(output, type=Report)


async def _build() -> Path:
    """Return the path of the program, which is built once for each version of its source, in the user's cache."""
    if shutil.which("go") is None:
        raise Unavailable("Go is not installed")
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(SOURCE.iterdir()))).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "actorloom"
    program = cache / f"linearizability-{digest}"
    if not program.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = program.with_suffix(f".{os.getpid()}")
        process = await asyncio.create_subprocess_exec(
            "go", "build", "-mod=readonly", "-o", str(part), ".",
            cwd=SOURCE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        if process.returncode:
            raise Unavailable(f"the program cannot be built: {output.decode(errors='replace')[-500:]}")
        part.rename(program)
    return program


def _chunks(history: History, verdict: BankVerdict) -> Iterator[dict[str, Any]]:
    operations = _operations(history, verdict)
    for account, found in operations.items():
        found.sort(key=lambda one: (one["shown"]["version"], one["kind"] != "move", one["call"]))
        base = history.base.get(account, Slip(0, 0))
        start = {"version": base.version, "balance": base.balance}
        for first in range(0, len(found), CHUNK):
            chunk = found[first : first + CHUNK]
            yield {"account": account, "start": start, "operations": chunk}
            start = next((one["shown"] for one in reversed(chunk) if one["kind"] == "move"), start)


def _operations(history: History, verdict: BankVerdict) -> dict[str, list[dict[str, Any]]]:
    """Return the operations of each account: all movements, queries and rejections.

    A movement that no customer has an answer for, that of a reaction, may have happened until the end of the history.
    """
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    clients = count()
    commands = {one.id: one for one in history.commands}
    last = max((one.end for one in (*history.commands, *history.reads)), default=0.0) + 1.0

    def add(account: str, kind: str, amount: int, call: float, end: float, slip: Slip) -> None:
        shown = {"version": slip.version, "balance": slip.balance}
        found[account].append(
            {"client": next(clients), "kind": kind, "amount": amount, "call": int(call * 1e9), "return": int(end * 1e9), "shown": shown}
        )  # fmt: skip

    for account, chain in verdict.chains.items():
        for movement in chain.values():
            command = commands.get(movement.command) or commands.get(movement.origin)
            answered = command is not None and command.outcome == "done"
            nested = command is not None and command.there is not None and command.to == account
            end = last
            slip = Slip(movement.version, movement.balance)
            if command is not None and answered and (nested or command.id == movement.command):
                end = command.end
                shown = command.there if nested else command.slip
                assert shown is not None
                slip = shown
            add(account, "move", movement.amount, command.start if command else history.began, end, slip)
    for read in history.reads:
        assert read.slip is not None
        kind = "reject" if read.kind == "rejection" else "read"
        add(read.account, kind, read.amount, read.start, read.end, read.slip)
    return found
