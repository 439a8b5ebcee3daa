"""Faults in processes of an application's own actors: killed, paused or cut off at each step of a turn.

async def drive(bus: Bus) -> None:
    await bus.retry(BookSeats("hamlet", 2), id="booking-1")

async def verify(bus: Bus) -> None:
    assert await bus.query(GetAudience("hamlet")) == Sold(2)

async def test_bookings_survive(nats_server: EmbeddedServer) -> None:
    await survive([Tickets, Ushers], drive, verify, url=nats_server.url)
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from runtime.actor.base import Actor, require_actor
from runtime.bounds import Count, Seconds, check
from runtime.client.bus import Bus
from runtime.errors import ActorError, RequestError
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.telemetry import Tracing
from runtime.testing.armed import ACTIONS, load
from runtime.testing.keeper import Keeper
from runtime.testing.steps import DEAD_LETTERING, STEPS
from runtime.wire.subjects import Names

__all__ = ["FAULTS", "survive"]

FAULTS: Final = (
    *(f"kill {step}" for step in STEPS),
    *(f"pause {step}" for step in ("handler.after", "reply.before", "relay.before", "ack.before")),
    *(f"cut {step}" for step in ("handler.after", "commit.sent", "relay.sent", "ack.sent")),
)
"""All faults: an action and a step. A step is reached once for each message, event or timer; the first time counts.

``kill`` is SIGKILL; the process is started again. ``pause`` is SIGSTOP, until another process has taken the keys over, and SIGCONT
then. ``cut`` ends the connection, and the process connects again. Actors without reactions do not reach ``ack``, those without
events and timers do not reach ``relay``, and only a key with many messages reaches ``dedup``.
A fault at a step that is not reached does not happen: the process runs undisturbed.
"""

Step = Callable[[Bus], Awaitable[object]]

_REQUEST_TIMEOUT = 2.0
"""Seconds after which a request of `drive` or `verify` counts as lost."""
_PAUSE = 0.05
"""Seconds between two attempts of `verify`, and between two looks whether the streams are at rest."""
_RESTLESS = 5.0
"""Seconds after which `verify` is final though the streams are not at rest, because of a schedule for example."""
_IN_HAND = 45.0
"""The same if a consumer has messages left. Those that an actor without state had in hand when it died come again after 30 s."""


async def survive(
    targets: Sequence[type[Actor[Any]] | str],
    drive: Step,
    verify: Step,
    *,
    url: str,
    faults: Sequence[str] = FAULTS,
    at_once: int = 4,
    lease_ttl: float = 1.0,
    timeout: float = 60.0,
) -> list[str]:
    """Run actors in a process once for each fault, and verify what they have done.

    For each fault, in a namespace of its own: the process starts, `drive` sends messages, and the fault happens at its step. `verify`
    is called until it raises neither `AssertionError` nor `RequestError`, and once more when no event is pending any more, so that
    an effect that comes twice is found.

    Args:
        targets: The actors, as classes or as ``module:Class``. The process imports their modules with the `sys.path` of the test.
        drive: Sends messages by the bus that it gets, whose requests wait 2 s. Each command needs an id that stays the same in all
            of its attempts: ``bus.retry(message, id=…)``.
        verify: Asks for the effects by the same bus, and raises `AssertionError` if they are wrong.
        url: The URL of the nats-server.
        faults: Some of `FAULTS`, or ``kill dead-letter.before``. One of them with ``pytest.mark.parametrize`` makes a test of each.
        at_once: The number of faults that are tried at the same time.
        lease_ttl: Seconds after which another process takes over, at least 1.
        timeout: Seconds that `drive`, and `verify` after it, may take. An event that an actor without state has in hand when its
            process dies is delivered again after 30 s. The last call of `verify` waits for it, longer than `timeout` if need be.

    Returns:
        The faults that have happened: those whose step was reached.

    Raises:
        ExceptionGroup: Some faults broke a promise, or their processes did not start. Each error has the name of its fault.
        ValueError: A fault does not exist, or no process can import a target.
    """
    check("at_once", at_once, Count)
    check("lease_ttl", lease_ttl, Seconds)
    check("timeout", timeout, Seconds)
    names = [_name_of(target) for target in targets]
    for fault in faults:
        _check_fault(fault)
    limit = asyncio.Semaphore(at_once)
    happened: list[str] = []
    errors: list[Exception] = []

    async def attempt(fault: str) -> None:
        async with limit:
            try:
                with TemporaryDirectory(prefix="actorloom-fault-") as logs:
                    if await _try_fault(fault, names, drive, verify, url, lease_ttl, timeout, Path(logs)):
                        happened.append(fault)
            except Exception as error:  # noqa: BLE001 - the other faults are tried nevertheless
                error.add_note(f"fault: {fault}")
                errors.append(error)

    async with asyncio.TaskGroup() as group:
        for fault in faults:
            group.create_task(attempt(fault))
    if errors:
        failed = ", ".join(each.__notes__[-1].removeprefix("fault: ") for each in errors)
        raise ExceptionGroup(f"{len(errors)} of {len(faults)} faults broke a promise: {failed}", errors)
    return [fault for fault in faults if fault in happened]


async def _try_fault(
    fault: str, targets: list[str], drive: Step, verify: Step, url: str, lease_ttl: float, timeout: float, logs: Path
) -> bool:
    """Try one fault. Return whether it has happened."""
    namespace = f"t{uuid.uuid4().hex[:12]}"
    arguments = [*targets, "--nats", url, "--namespace", namespace, "--lease-ttl", str(lease_ttl)]
    tracing = Tracing(in_memory=True)
    connection = await Connection.connect(ConnectionOptions(url=url), name="test")
    jetstream = JetStream(connection)
    bus = Bus(connection, tracing.service("test"), namespace=namespace, timeout=_REQUEST_TIMEOUT)
    armed = Keeper(arguments, logs / "armed.log", fault=fault, pause=lease_ttl + 2.0)
    standby = Keeper(arguments, logs / "standby.log")

    async def work() -> None:
        await armed.ready()
        if fault.startswith("pause"):
            standby.start()
            await standby.ready()
        async with asyncio.timeout(timeout):
            await drive(bus)
        async with asyncio.timeout(timeout):
            await _until_true(verify, bus, timeout)
        await armed.recovered()
        await _rest(jetstream, namespace)
        async with asyncio.timeout(timeout):
            await _until_true(verify, bus, _REQUEST_TIMEOUT)

    try:
        armed.start()
        working = asyncio.ensure_future(work())
        try:
            await asyncio.wait({working, armed.failed, standby.failed}, return_when=asyncio.FIRST_COMPLETED)
            for keeper in (armed, standby):
                keeper.check()
            await working
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        return armed.happened
    finally:
        await asyncio.gather(armed.end(), standby.end())
        await _remove(jetstream, namespace)
        await connection.close()
        tracing.shutdown()


async def _until_true(verify: Step, bus: Bus, timeout: float) -> None:
    """Call `verify` until it raises no error, at most for some seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout * 0.9
    while True:
        try:
            await verify(bus)
            return
        except (AssertionError, RequestError):
            if loop.time() > end:
                raise
        await asyncio.sleep(_PAUSE)


async def _rest(jetstream: JetStream, namespace: str) -> None:
    """Return when no consumer has a message left and nothing more is stored, or after some seconds."""
    loop = asyncio.get_running_loop()
    start, before, pending = loop.time(), None, 0
    while loop.time() - start < (_IN_HAND if pending else _RESTLESS):
        sequences: dict[str, int] = {}
        pending = 0
        for stream in await jetstream.stream_names(f"{namespace}.>"):
            sequences[stream] = (await jetstream.stream_info(stream)).state.last_seq
            consumers = await jetstream.consumers(stream)
            pending += sum(each.num_pending + each.num_ack_pending for each in consumers)
        if not pending and sequences == before:
            return
        before = sequences
        await asyncio.sleep(_PAUSE)


async def _remove(jetstream: JetStream, namespace: str) -> None:
    """Delete the streams of a namespace."""
    try:
        streams = await jetstream.stream_names(f"{namespace}.>")
        names = Names("any", namespace)
        for stream in (*streams, f"KV_{names.lease_bucket}", f"KV_{names.schema_bucket}"):
            await jetstream.delete_stream(stream)
    except (ActorError, TimeoutError):
        return  # They are on a server of a test.


def _name_of(target: type[Actor[Any]] | str) -> str:
    """Return a target as ``module:Class``. Raises `ValueError` if no other process can import it."""
    if not isinstance(target, str):
        require_actor(target)
        name = f"{target.__module__}:{target.__qualname__}"
        if target.__module__ == "__main__" or "<locals>" in name:
            raise ValueError(f"{name}: another process cannot import it: declare the class in a module")
        target = name
    try:
        load(target)
    except (ImportError, AttributeError, ActorError, ValueError) as error:
        raise ValueError(f"{target!r} is no actor that another process can import, as module:Class: {error}") from None
    return target


def _check_fault(fault: str) -> None:
    action, _, step = fault.partition(" ")
    if action not in ACTIONS or step not in (*STEPS, *DEAD_LETTERING):
        raise ValueError(f"{fault!r} is no fault: use {', '.join(ACTIONS)}, and one of {', '.join(STEPS)}")
