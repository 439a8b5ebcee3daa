"""The audit of the bank: the stored accounts and their movements are compared with the history of its customers."""

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field

import msgspec

from runtime.nats.connection import Connection
from runtime.wire import header_block
from runtime.wire.subjects import Names
from tests.chaos.audit import StoreReader
from tests.chaos.bank import Account, Entries, Slip
from tests.chaos.history import History, Operation

PATIENCE = 25.0
"""Seconds without progress after which a missing effect counts as lost."""


class Movement(msgspec.Struct):
    """The stored body of a `Moved` event."""

    account: str
    version: int
    amount: int
    balance: int
    command: str
    origin: str = ""
    to: str = ""


@dataclass
class BankVerdict:
    """What the audit has found. All numbers must be zero."""

    lost: int = 0
    """Movements that were acknowledged or must follow from others, and are not stored."""
    twice: int = 0
    """Messages that have moved money more than once, and versions that were written more than once."""
    phantoms: int = 0
    """Commands that were refused with ``executed: false``, or rejected, and have moved money."""
    made: int = 0
    """Money that the accounts have too much, or too little if negative."""
    disorder: int = 0
    """Deposits by events of one account that took effect in another order than these events have."""
    wrong: int = 0
    """Answers whose balance is not that of their version, or that came before their version was sent."""
    unresolved: int = 0
    """Commands whose outcome never became known."""
    problems: list[str] = field(default_factory=list)
    """Examples; 20 lines at most."""
    chains: dict[str, dict[int, Movement]] = field(default_factory=dict)
    """The movements of each account, by version."""

    @property
    def good(self) -> bool:
        return not (
            self.lost
            or self.twice
            or self.phantoms
            or self.made
            or self.disorder
            or self.wrong
            or self.unresolved
            or self.problems
        )

    def add(self, problem: str) -> None:
        if len(self.problems) < 20:
            self.problems.append(problem)


async def audit_bank(
    connection: Connection,
    namespace: str,
    history: History,
    *,
    since: int = 0,
    patience: float = PATIENCE,
    partitions: int = 1,
) -> BankVerdict:
    """Wait until all movements have arrived, and compare them with the history. Faults must be over.

    Args:
        connection: Reads the streams.
        namespace: Namespace of the bank.
        history: The history of the customers.
        since: Sequence in the stream of events before which the history begins.
        patience: Seconds without progress after which missing movements count as lost.
        partitions: Partitions of the keys.
    """
    verdict = BankVerdict()
    reader = StoreReader(connection, namespace, partitions)
    movements = await _settled(reader, history, since, patience)
    accounts = sorted({one.account for one in (*history.commands, *history.reads)} | movements.keys())
    total = 0
    for account in accounts:
        stored = await reader.state("bank", StoredAccount, account)
        base = history.base.get(account, Slip(0, 0))
        total += stored.balance - base.balance
        chain = _chain(verdict, account, base, stored, movements.get(account, []))
        verdict.chains[account] = chain
        entries = await reader.state("books", Entries, account)
        if not history.base and (entries.count, entries.last, entries.disorder) != (stored.version, stored.version, 0):
            verdict.lost += max(stored.version - entries.count, 0)
            verdict.twice += max(entries.count - stored.version, 0)
            verdict.add(f"{account}: version {stored.version}, but the books have {entries}")
    by_message: dict[str, list[Movement]] = defaultdict(list)
    for chain in verdict.chains.values():
        for movement in chain.values():
            by_message[movement.command].append(movement)
            if movement.origin:
                by_message[movement.origin].append(movement)
    expected = sum(_check_command(verdict, one, by_message.pop(one.id, [])) for one in history.commands)
    _check_total(verdict, total, expected)
    _check_order(verdict)
    _check_answers(verdict, history)
    return verdict


class StoredAccount(Account, frozen=True):
    """An account, or an empty one."""

    branch: str = ""
    account: str = ""


async def _settled(
    reader: StoreReader, history: History, since: int, patience: float
) -> dict[str, list[tuple[str, Movement]]]:
    """Return the movements by account once all have arrived in all places, or none has arrived for `patience` seconds."""
    last, changed = -1, time.monotonic()
    commanded = {one.account for one in history.commands}
    while True:
        movements = await _movements(reader, since)
        open_ends = 0
        progress = sum(len(found) for found in movements.values())
        sent = {movement.command for found in movements.values() for _, movement in found if movement.to}
        arrived = {movement.origin for found in movements.values() for _, movement in found}
        open_ends += len(sent - arrived)
        for account in movements.keys() | commanded:
            found = movements.get(account, [])
            stored = await reader.state("bank", StoredAccount, account)
            entries = await reader.state("books", Entries, account)
            base = history.base.get(account, Slip(0, 0)).version
            open_ends += abs(stored.version - base - len({movement.version for _, movement in found}))
            open_ends += 0 if history.base else abs(stored.version - entries.count)
            progress += entries.count
        if not open_ends:
            return movements
        if progress != last:
            last, changed = progress, time.monotonic()
        if time.monotonic() - changed > patience:
            return movements
        await asyncio.sleep(0.2)


async def _movements(reader: StoreReader, since: int) -> dict[str, list[tuple[str, Movement]]]:
    """Return the stored `Moved` events by account, each with its id."""
    names = Names("bank", reader.namespace)
    found: dict[str, list[tuple[str, Movement]]] = defaultdict(list)
    async for stored in reader.jetstream.read(names.events_stream, names.stored_event("moved")):
        if stored.sequence > since:
            movement = msgspec.json.decode(stored.payload, type=Movement)
            found[movement.account].append((header_block.get(stored.headers, b"ce-id") or "", movement))
    return found


def _chain(
    verdict: BankVerdict, account: str, base: Slip, stored: Account, found: list[tuple[str, Movement]]
) -> dict[int, Movement]:
    """Check that the versions of an account were written once each, and that they add up; return them."""
    chain: dict[int, Movement] = {}
    seen: set[str] = set()
    for event_id, movement in found:
        if event_id in seen:
            continue  # published twice after a restart of the server; consumers recognize it
        seen.add(event_id)
        if movement.version in chain:
            verdict.twice += 1
            verdict.add(
                f"{account}: version {movement.version} was written twice: {chain[movement.version]}, {movement}"
            )
        chain[movement.version] = movement
    balance = base.balance
    for version in range(base.version + 1, stored.version + 1):
        entry = chain.get(version)
        if entry is None:
            verdict.lost += 1
            verdict.add(f"{account}: version {version} of {stored.version} has no event")
            return chain
        balance += entry.amount
        if entry.balance != balance:
            verdict.lost += 1
            verdict.add(f"{account}: version {version} has {entry.balance}, and should have {balance}")
            balance = entry.balance
    newest = max(chain, default=base.version)
    if (newest, balance) != (stored.version or base.version, stored.balance):
        verdict.lost += 1
        verdict.add(f"{account}: version {stored.version} with {stored.balance} is stored, and {newest} was emitted")
    return chain


def _check_command(verdict: BankVerdict, operation: Operation, movements: list[Movement]) -> int:
    """Compare a command with its movements; return the money that it has brought into the bank."""
    own = [one for one in movements if one.command == operation.id]
    other = [one for one in movements if one.origin == operation.id]
    label = f"{operation.kind} {operation.id} of {operation.amount} from {operation.account} to {operation.to or '-'}"
    moves_on = operation.kind in ("transfer", "send")
    sign = 1 if operation.kind == "deposit" else -1
    if operation.outcome != "done":
        if operation.outcome in ("none", "rejected"):
            if movements:
                verdict.phantoms += 1
                verdict.add(f"{label}: {operation.outcome}, but {movements}")
        else:
            verdict.unresolved += 1
            verdict.add(f"{label}: its outcome never became known")
            return 0 if moves_on else sum(one.amount for one in own)
        return 0
    for found, wanted in ((own, 1), (other, int(moves_on))):
        verdict.lost += max(wanted - len(found), 0)
        verdict.twice += max(len(found) - wanted, 0)
    if len(own) != 1 or len(other) != int(moves_on):
        verdict.add(f"{label}: done, and has moved {movements}")
    if own and (
        operation.slip is None or (own[0].version, own[0].balance) != (operation.slip.version, operation.slip.balance)
    ):
        verdict.wrong += 1
        verdict.add(f"{label}: the answer was {operation.slip}, but {own[0]} is stored")
    return 0 if moves_on else sign * operation.amount


def _check_total(verdict: BankVerdict, total: int, expected: int) -> None:
    if total != expected:
        verdict.made = total - expected
        verdict.add(f"the accounts have {total}, and should have {expected}: {total - expected:+} made of nothing")


def _check_order(verdict: BankVerdict) -> None:
    """Check that the deposits of each account by events of another one are in the order of these events."""
    movements = [movement for chain in verdict.chains.values() for movement in chain.values()]
    sources = {movement.command: movement for movement in movements if movement.to}
    for account, chain in verdict.chains.items():
        last: dict[str, Movement] = {}
        for _, deposit in sorted(chain.items()):
            source = sources.get(deposit.origin)
            if source is None:
                continue
            before = last.get(source.account)
            if before is not None and before.version > source.version:
                verdict.disorder += 1
                verdict.add(f"{account}: {source} took effect after {before}")
            last[source.account] = source


def _check_answers(verdict: BankVerdict, history: History) -> None:
    """Check that each query has shown the balance of its version, and not before that version was sent."""
    sent = {one.id: one.start for one in history.commands}
    for read in history.reads:
        slip = read.slip
        assert slip is not None
        base = history.base.get(read.account, Slip(0, 0))
        if slip.version <= base.version:
            good = slip == base
        else:
            entry = verdict.chains.get(read.account, {}).get(slip.version)
            good = entry is not None and entry.balance == slip.balance
            if entry is not None and read.end < sent.get(entry.origin or entry.command, 0.0):
                good = False
        if not good:
            verdict.wrong += 1
            verdict.add(f"{read.kind} of {read.account}: {slip}, which no version has")
