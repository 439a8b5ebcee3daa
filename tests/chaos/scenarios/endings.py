"""What a process cannot mend by beginning anew: it ends, not with 0, so that its supervisor notices."""

import msgspec

from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.wire.subjects import Names
from tests.chaos.cell import Cell, Result, Setting, cell, measured
from tests.chaos.fleet import Worker, until
from tests.chaos.servers import Servers

RESTARTS = 5
"""How often within a minute a part may fail."""
SERVING = "ledger: serving"
"""What its log says each time that it begins."""


async def endings(setting: Setting) -> Result:
    """A part that fails again and again, state that is deleted, credentials that are taken away: exit codes other than 0."""
    result = Result("endings", setting.seed)
    async with measured(result), Servers(setting.directory) as servers, cell(setting, servers, "endings") as here:
        ledger = here.start("ledger", tick=0.1, keep=False)
        counter = here.start("counter", tick=0.1, keep=False)
        for worker in (ledger, counter):
            await worker.ready()
        await _spoil(here, ledger, result)
        await JetStream(here.connection).delete_stream(Names("counter", here.namespace).turns_stream)
        await _ends(result, counter, "its state was deleted")
        await _locked_out(setting, here, result)
        here.complain(result)
    result.load = "none"
    result.faults = f"a consumer changed {RESTARTS + 1} times, a stream of states deleted, a password changed"
    return result


async def _spoil(here: Cell, worker: Worker, result: Result) -> None:
    """Change the consumer of the ledger as somebody might, each time that it was put back."""
    jetstream, stream = JetStream(here.connection), Names("counter", here.namespace).events_stream
    for number in range(RESTARTS + 1):
        config = (await jetstream.consumer_info(stream, "ledger")).config
        whole = config["max_ack_pending"]
        body = {"stream_name": stream, "config": {**config, "max_ack_pending": 1}, "action": "update"}
        subject = f"$JS.API.CONSUMER.CREATE.{stream}.ledger"
        await here.connection.request(subject, msgspec.json.encode(body), timeout=5)
        if number < RESTARTS:
            await until(lambda n=number: worker.log.read_text().count(SERVING) > n + 1, 20, "the ledger serves again")
            config = (await jetstream.consumer_info(stream, "ledger")).config
            result.require(config["max_ack_pending"] == whole, f"change {number + 1} was not put back")
            result.require(worker.alive, f"it ended after {number + 1} failures of a part")
    await _ends(result, worker, "a part failed again and again")


async def _locked_out(setting: Setting, here: Cell, result: Result) -> None:
    """Restart a server with another password: the connection of the process is closed for good."""
    store = setting.directory / "nats-locked"
    async with EmbeddedServer(port=0, store_dir=store, config=_login("first")) as server:
        url = f"nats://actor:first@127.0.0.1:{server.port}"
        worker = here.start("receipts", url=url, keep=False)
        await worker.ready()
        server.kill()
        port = server.port
        async with EmbeddedServer(port=port, store_dir=store, config=_login("second")):
            await _ends(result, worker, "its credentials were taken away")


def _login(password: str) -> str:
    return f'authorization {{ user: actor, password: "{password}" }}'


async def _ends(result: Result, worker: Worker, why: str) -> None:
    try:
        code = await worker.ended(60)
    except TimeoutError:
        result.problems.append(f"{worker.program.name} goes on, though {why}")
        return
    result.figures[f"exit code when {why}"] = code
    result.require(code > 0, f"{worker.program.name} ended with {code} when {why}")
