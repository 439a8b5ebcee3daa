"""The bank under faults of its storage: deleted leases, refused commits, a full disk, a restored stream."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from runtime.wire import header_block
from runtime.wire.subjects import Names
from tests.chaos.audit import StoreReader
from tests.chaos.backups import Backup
from tests.chaos.bank import Deposit, Slip, Transfer
from tests.chaos.bank_audit import StoredAccount
from tests.chaos.bank_cell import BankCell, open_bank
from tests.chaos.cell import Result, Setting
from tests.chaos.depositors import Crowd
from tests.chaos.history import Operation
from tests.chaos.scenarios.bank import LOAD, observe

_NOTICE = 15.0
"""Seconds within which the processes must have noticed that the server was restored."""
_RECORD_LIMIT = 12_000
"""Bytes of a record that the stream takes in `bank-refused`."""


async def bank_leases(setting: Setting) -> Result:
    """The key of the owner's lease is deleted or purged, and the bucket is deleted, under load."""
    result = Result("bank-leases", setting.seed)
    await delete_leases(setting, result)
    return result


async def delete_leases(
    setting: Setting, result: Result, without: Iterable[str] = (), *, lease_ttl: float = 2.0
) -> None:
    """Delete the lease in one way after another."""
    rng = setting.rng("bank-leases")
    ways = ["delete", "purge", "bucket"] * setting.size(3, 1)
    async with open_bank(setting, result, "leases", without=without, lease_ttl=lease_ttl) as bank:
        for way in ways:
            await bank.owner()
            bank.depositors.burst(0.1)
            await asyncio.sleep(rng.uniform(0.03, 0.09))
            await delete_lease(bank, way)
            await observe(bank, rng.uniform(2.0, 4.0))
        await bank.finish(result, 12.0)
    result.load = LOAD
    result.faults = f"{len(ways)} deletions of a lease, or of its bucket, with a lease of {lease_ttl:g} s"


async def delete_lease(bank: BankCell, way: str) -> None:
    """Delete the lease of the bank: by ``delete`` or ``purge`` of its key, or with the whole ``bucket``."""
    bucket = f"{bank.cell.namespace}-leases"
    subject = f"$KV.{bucket}.bank.0"
    match way:
        case "delete":
            block = header_block.encode([("KV-Operation", "DEL")])
            await bank.jetstream.publish(subject, b"", headers=block)
        case "purge":
            await bank.jetstream.purge(f"KV_{bucket}", subject, 2**53)
        case _:
            await bank.jetstream.delete_stream(f"KV_{bucket}")


async def bank_refused(setting: Setting) -> Result:
    """The stream refuses a deposit, and the transfer behind it rests on that deposit: it must not take effect anywhere."""
    result = Result("bank-refused", setting.seed)
    await refuse_commits(setting, result)
    return result


async def refuse_commits(setting: Setting, result: Result, without: Iterable[str] = ()) -> None:
    """Send deposits that the stream refuses, each with a transfer of its money right behind it."""
    rounds = setting.size(150, 20)
    async with open_bank(setting, result, "refused", without=without) as bank:
        await _limit_records(bank, _RECORD_LIMIT)
        targets = [bank.depositors.open() for _ in range(8)]
        for number in range(rounds):
            await _overreach(bank, targets[number % len(targets)])
        await bank.depositors.wait_for_more(50)
        await bank.finish(result, 8.0)
    result.load = LOAD
    result.faults = f"{rounds} deposits that are too large for the stream, each with a transfer behind it"


async def _overreach(bank: BankCell, target: str) -> None:
    """Deposit 100 with a note that the stream refuses, and transfer the 100 at the same time."""
    depositors = bank.depositors
    account = depositors.open()
    amount = 100
    deposit = Operation("deposit", account, 0.0, depositors.new_id(), amount)
    transfer = Operation("transfer", account, 0.0, depositors.new_id(), amount, target)
    message = Deposit(account, amount, note="x" * _RECORD_LIMIT)
    sent = asyncio.ensure_future(depositors.move(deposit, message, patient=3.0))
    await asyncio.sleep(0)
    await asyncio.gather(sent, depositors.move(transfer, Transfer(account, amount, target), patient=3.0))


async def _limit_records(bank: BankCell, size: int) -> None:
    """Give the stream of records a limit of its own for the size of a message."""
    stream = Names("bank", bank.cell.namespace).turns_stream
    info = await _call(bank, f"STREAM.INFO.{stream}")
    await _call(bank, f"STREAM.UPDATE.{stream}", {**info["config"], "max_msg_size": size})


async def _call(bank: BankCell, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Call the API of JetStream.

    Raises:
        RuntimeError: The server refuses the call.
    """
    payload = b"" if body is None else msgspec.json.encode(body)
    reply = await bank.cell.connection.request(f"$JS.API.{subject}", payload, timeout=5)
    answer: dict[str, Any] = msgspec.json.decode(reply.payload)
    if "error" in answer:
        raise RuntimeError(f"{subject}: {answer['error']}")
    return answer


async def bank_restore(setting: Setting) -> Result:
    """The stream of records is restored from a backup that was made under load, while no process of the bank runs."""
    result = Result("bank-restore", setting.seed)
    crowd = Crowd()
    async with open_bank(setting, result, "restore", crowd=crowd) as bank:
        names = Names("bank", bank.cell.namespace)
        connection = bank.cell.connection
        backup = await Backup.make(connection, names.turns_stream)
        await observe(bank, 2.0)
        await bank.finish(result, 8.0)
        for worker in bank.banks:
            await bank.cell.fleet.retire(worker)
        await bank.jetstream.delete_stream(names.turns_stream)
        await backup.restore(connection)
        since = (await bank.jetstream.stream_info(names.events_stream)).state.last_seq
        await bank.restart_customers(crowd, await _stored(bank, bank.depositors.accounts))
        bank.banks[:] = []
        for _ in range(2):
            bank.start_bank()
        for _ in range(setting.size(6, 1)):
            await observe(bank, 2.0)
            bank.depositors.burst(0.02)
            (await bank.owner()).kill()
        await bank.finish(result, 8.0, since=since)
    result.load = LOAD
    result.faults = (
        "the stream restored from a backup of some seconds before, with no process running; then kill -9 of owners"
    )
    return result


async def bank_rollback(setting: Setting) -> Result:
    """The files of the server are restored from a backup while the processes run: they must show what is stored then."""
    result = Result("bank-rollback", setting.seed)
    crowd = Crowd()
    async with open_bank(setting, result, "rollback", crowd=crowd) as bank:
        node = bank.servers.nodes[0]
        live, backup = setting.directory / "nats-0", setting.directory / "backup"
        await node.stop()
        shutil.copytree(live, backup)
        await node.start()
        await observe(bank, 3.0)
        await bank.finish(result, 10.0)
        await node.stop()
        shutil.rmtree(live)
        shutil.move(backup, live)
        await node.start()
        begun = time.monotonic()
        stored = await _shown(bank)
        result.figures["seconds until only the restored states are shown"] = round(time.monotonic() - begun, 1)
        names = Names("bank", bank.cell.namespace)
        since = (await bank.jetstream.stream_info(names.events_stream)).state.last_seq
        await bank.restart_customers(crowd, stored)
        for _ in range(setting.size(4, 1)):
            await observe(bank, 2.0)
            bank.depositors.burst(0.02)
            (await bank.owner()).kill()
        await bank.finish(result, 8.0, since=since)
    result.load = LOAD
    result.faults = "the files of the server restored from a backup of some seconds before, with all processes running"
    return result


async def _shown(bank: BankCell) -> dict[str, Slip]:
    """Return the stored accounts once queries show exactly these, and reactions that were under way have ended.

    Raises:
        TimeoutError: This is not so within `_NOTICE` seconds.
    """
    accounts = bank.depositors.accounts
    shown: dict[str, Slip] = {}
    async with asyncio.timeout(_NOTICE):
        while True:
            stored, before = await _stored(bank, accounts), shown
            shown = {account: slip for account, slip in (await bank.depositors.read_all()).items() if slip.version}
            if stored == shown == before:
                return stored
            await asyncio.sleep(0.5)


async def _stored(bank: BankCell, accounts: list[str]) -> dict[str, Slip]:
    """Return the stored version and balance of each account that has a record."""
    reader = StoreReader(bank.cell.connection, bank.cell.namespace)
    found = {account: await reader.state("bank", StoredAccount, account) for account in accounts}
    return {account: Slip(state.version, state.balance) for account, state in found.items() if state.version}


async def bank_disk(setting: Setting) -> Result:
    """The disk of the server is full for some seconds under load (a small file system in memory; needs root)."""
    result = Result("bank-disk", setting.seed)
    result.load = LOAD
    rng = setting.rng("bank-disk")
    disk = setting.directory / "nats-0"
    disk.mkdir(parents=True)
    if reason := _run("mount", "-t", "tmpfs", "-o", "size=256m", "none", str(disk)):
        result.faults = f"SKIPPED: no file system of its own here ({reason})"
        return result
    rounds = setting.size(3, 1)
    try:
        async with open_bank(setting, result, "disk") as bank:
            for _ in range(rounds):
                filler = disk / "filler"
                _fill(filler)
                await asyncio.sleep(rng.uniform(2.0, 4.0))
                filler.unlink()
                # A server that could not write has switched its JetStream off until it starts again.
                await bank.servers.restart(bank.servers.nodes[0])
                await observe(bank, rng.uniform(1.0, 3.0))
            await bank.finish(result, 15.0)
    finally:
        _run("umount", "--lazy", str(disk))
    result.faults = f"the disk was full {rounds} times for 2 to 4 s, and the server was killed and started again"
    return result


def _fill(path: Any) -> None:
    """Write zeros to a file until the file system is full."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                os.fsync(file.fileno())


def _run(*command: str) -> str:
    """Run a command; return why it failed, or nothing."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else ""
