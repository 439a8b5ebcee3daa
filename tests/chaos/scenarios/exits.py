"""Failures that a process cannot repair by restarting a part: it must exit with a code other than 0."""

import asyncio

import msgspec

from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.wire.subjects import Names
from tests.chaos.cell import Cell, Result, Setting, single_cell
from tests.chaos.fleet import Worker, until

RESTARTS = 5
"""Failures per minute after which a part is still restarted."""

SERVING = "ledger: serves "
"""Log line of each start of the ledger."""


async def exits(setting: Setting) -> Result:
    """A part that keeps failing, a deleted stream of states, revoked credentials: the exit code must not be 0."""
    result = Result("exits", setting.seed)
    async with single_cell(setting, result, "exits") as cell:
        ledger = cell.start("ledger", tick=0.1, keep=False)
        counter = cell.start("counter", tick=0.1, keep=False)
        for worker in (ledger, counter):
            await worker.ready()
        await _change_consumer(cell, ledger, result)
        await JetStream(cell.connection).delete_stream(Names("counter", cell.namespace).turns_stream)
        await _require_failure(result, counter, "its state was deleted")
        await _change_password(setting, cell, result)
        cell.check_logs(result)
    result.load = "none"
    result.faults = f"a consumer changed {RESTARTS + 1} times, a stream of states deleted, a password changed"
    return result


async def _change_consumer(cell: Cell, worker: Worker, result: Result) -> None:
    """Change the consumer of the ledger each time that the ledger has repaired it."""
    jetstream, stream = JetStream(cell.connection), Names("counter", cell.namespace).events_stream
    # The ledger finds the stream some time after the counter has created it, and names its consumer by the reaction then.
    async with asyncio.timeout(20):
        while not (consumers := await jetstream.consumers(stream)):
            await asyncio.sleep(0.01)
    name = consumers[0].name
    for number in range(RESTARTS + 1):
        config = (await jetstream.consumer_info(stream, name)).config
        original = config["max_ack_pending"]
        body = {"stream_name": stream, "config": {**config, "max_ack_pending": 1}, "action": "update"}
        subject = f"$JS.API.CONSUMER.CREATE.{stream}.{name}"
        await cell.connection.request(subject, msgspec.json.encode(body), timeout=5)
        if number < RESTARTS:
            await until(lambda n=number: worker.log.read_text().count(SERVING) > n + 1, 20, "a new start of the ledger")
            config = (await jetstream.consumer_info(stream, name)).config
            result.require(config["max_ack_pending"] == original, f"change {number + 1} was not repaired")
            result.require(worker.alive, f"the process ended after {number + 1} failures of a part")
    await _require_failure(result, worker, "a part kept failing")


async def _change_password(setting: Setting, cell: Cell, result: Result) -> None:
    """Restart a server with another password, so that the connection of the process is closed for good."""
    store = setting.directory / "nats-locked"
    async with EmbeddedServer(port=0, store_dir=store, config=_login("first")) as server:
        url = f"nats://actor:first@127.0.0.1:{server.port}"
        worker = cell.start("receipts", url=url, keep=False)
        await worker.ready()
        server.kill()
        port = server.port
        async with EmbeddedServer(port=port, store_dir=store, config=_login("second")):
            await _require_failure(result, worker, "its credentials were revoked")


def _login(password: str) -> str:
    return f'authorization {{ user: actor, password: "{password}" }}'


async def _require_failure(result: Result, worker: Worker, cause: str) -> None:
    try:
        code = await worker.wait(60)
    except TimeoutError:
        result.problems.append(f"{worker.program.name} still runs after {cause}")
        return
    result.figures[f"exit code when {cause}"] = code
    result.require(code > 0, f"{worker.program.name} ended with {code} when {cause}")
