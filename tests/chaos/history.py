"""The history of the bank's accounts: every operation with its times, and a check of each answer when it arrives.

The versions of an account make the check complete. A history is linearizable per account if and only if each version was
written once, and for each answer: it is not older than any answer that arrived before its operation began, a command's is
newer, its version was sent before it arrived, and its balance is that of its version. The first two are checked here, for
each answer; the others at the end, by `tests.chaos.bank_audit`.
"""

import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.chaos.bank import Slip

LIST_LAG = 1.0
"""Seconds for which a list may miss a commit of the former owner after an unclean take-over (half of it, and a reserve)."""


@dataclass(slots=True)
class Operation:
    """A command, query or rejection, with the monotonic times of its beginning and its end, and what it has shown."""

    kind: str
    account: str
    start: float
    id: str = ""
    amount: int = 0
    to: str = ""
    end: float = 0.0
    slip: Slip | None = None
    """The version and the balance that the answer shows; None without an answer."""
    there: Slip | None = None
    """Those of the other account of a transfer."""
    attempts: int = 0
    outcome: str = ""
    """``done``, ``rejected``, ``none`` (certainly without effect), or empty while the outcome is not known."""


@dataclass
class History:
    """All operations, and the newest version of each account that an answer has shown."""

    commands: list[Operation] = field(default_factory=list)
    successes: int = 0
    reads: list[Operation] = field(default_factory=list)
    """Queries and rejections."""
    waits: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """The longest wait in seconds for each kind of operation, over all attempts."""
    stale: int = 0
    """Answers of queries and rejections that are older than an answer which arrived before they were requested."""
    stale_commands: int = 0
    """Commands that do not follow a version which an answer had shown before they were sent."""
    listed: int = 0
    """Accounts in answers to lists."""
    lagging: int = 0
    """Accounts in lists whose version is older than a version shown before, by up to `LIST_LAG` seconds."""
    stale_lists: int = 0
    """Accounts in lists that are older than that, or missing."""
    unknown: int = 0
    """Attempts of unknown outcome."""
    refused: int = 0
    """Attempts that were certainly without effect."""
    unexpected: Counter[str] = field(default_factory=Counter)
    """Outcomes outside the contract."""
    examples: list[str] = field(default_factory=list)
    """The first stale answers."""
    stall: float = 0.0
    """Longest time without a successful command, in seconds."""
    measuring: bool = True
    """Whether `stall` is measured; not when few commands are left."""
    base: dict[str, Slip] = field(default_factory=dict)
    """The state of accounts that are older than this history."""
    began: float = field(default_factory=time.monotonic)
    _floors: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    """For each account, the times at which an answer showed a newer version than all before, and these versions."""
    _last: float = 0.0

    def floor(self, account: str, at: float | None = None) -> int:
        """Return the newest version that an answer had shown at the time `at`, by default now."""
        floors = self._floors.get(account)
        if not floors:
            return self.base[account].version if account in self.base else 0
        if at is None:
            return floors[-1][1]
        position = bisect_right(floors, at, key=lambda floor: floor[0])
        if position:
            return floors[position - 1][1]
        return self.base[account].version if account in self.base else 0

    def done(self, operation: Operation, slip: Slip, there: Slip | None = None) -> None:
        """Record the answer of a command that has just arrived."""
        now = operation.end = time.monotonic()
        self.successes += 1
        operation.slip, operation.there, operation.outcome = slip, there, "done"
        floor = self.floor(operation.account, operation.start)
        if slip.version <= floor:
            self.stale_commands += 1
            self._example(f"{operation.kind} {operation.id} of {operation.account}: {slip}, after version {floor}")
        self._show(operation.account, now, slip.version)
        if there is not None:
            self._show(operation.to, now, there.version)
        if self.measuring:
            self.stall = max(self.stall, now - self._last) if self._last else 0.0
            self._last = now

    def read(self, operation: Operation, slip: Slip, floor: int) -> None:
        """Record the answer of a query, or a rejection, that has just arrived.

        Args:
            operation: The operation.
            slip: The version and the balance that it shows; version 0 if there is no account.
            floor: `floor` at the beginning of the attempt that was answered.
        """
        now = operation.end = time.monotonic()
        operation.slip = slip
        if slip.version < floor:
            self.stale += 1
            newer = next((at for at, version in self._floors[operation.account] if version > slip.version), self.began)
            self._example(
                f"{operation.kind} of {operation.account}: {slip}, {now - newer:.2f} s after a newer answer (now {floor})"
            )
        self.reads.append(operation)
        self._show(operation.account, now, slip.version)

    def list(self, start: float, branch: str, found: Mapping[str, Slip]) -> None:
        """Check the answer to a list that has just arrived, and was requested at `start`."""
        self.listed += len(found)
        for account, floors in self._floors.items():
            if not account.startswith(f"{branch}-"):
                continue
            version = found[account].version if account in found else 0
            if version >= floors[-1][1] or version >= self.floor(account, start):
                continue
            if version >= self.floor(account, start - LIST_LAG):
                self.lagging += 1
                continue
            self.stale_lists += 1
            self._example(f"list of {branch}: {account} of version {version}, after {self.floor(account, start)}")

    def wait(self, kind: str, seconds: float) -> None:
        """Record the time from the first attempt at an operation to its outcome."""
        self.waits[kind] = max(self.waits[kind], seconds)

    def show(self, account: str, version: int) -> None:
        """Record that a version was seen just now, in an event."""
        self._show(account, time.monotonic(), version)

    def _show(self, account: str, now: float, version: int) -> None:
        if version > self.floor(account):
            self._floors[account].append((now, version))

    def _example(self, text: str) -> None:
        if len(self.examples) < 8:
            self.examples.append(f"{time.monotonic() - self.began:.1f} s: {text}")
