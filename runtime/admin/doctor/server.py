"""The doctor's checks of the server: version, limits, disk, cluster, and a probe of the operations of actors."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from runtime.admin.doctor.finding import Finding, fail, ok, warn
from runtime.admin.doctor.monitoring import DEFAULT_PORT, Varz, read_varz
from runtime.errors import ActorError
from runtime.nats.connection import Connection, PermissionDenied
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import SECOND, ConsumerConfig
from runtime.nats.jetstream.errors import ApiError
from runtime.nats.jetstream.responses import AccountInfo
from runtime.nats.server_version import REMEDY, too_old
from runtime.storage.streams import turns_config
from runtime.wire.server_clock import TOLERATED, ServerClock
from runtime.wire.subjects import Names

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
_SAMPLES: Final = 5
"""Number of measurements of the clock; the one with the shortest round trip counts."""


async def check_server(
    connection: Connection, jetstream: JetStream, *, namespace: str, replicas: int, monitor: str, probe: bool
) -> AsyncIterator[Finding]:
    """Check the server of `connection` and yield the findings. See `examine` for the arguments."""
    server = connection.server
    yield _version(server)
    yield _payload(connection.max_payload)
    yield _clock(connection.clock, connection.clock_fault)
    try:
        account = await jetstream.account()
    except (ActorError, TimeoutError) as error:
        todo = (
            _grant(error)
            if isinstance(error, PermissionDenied)
            else "add `jetstream { store_dir: … }` to its configuration, and enable it for this account"
        )
        yield fail("jetstream", f"does not answer: {error}", todo)
        return
    address = monitor or f"http://{connection.server_address[0]}:{DEFAULT_PORT}"
    varz = await asyncio.to_thread(read_varz, address, server)
    yield _storage(account, varz)
    yield _sync(varz)
    yield _cluster(server, varz, replicas)
    if probe:
        async for finding in _probe(connection, jetstream, namespace, replicas):
            yield finding


def _version(server: dict[str, Any]) -> Finding:
    version = str(server.get("version", "?"))
    if reason := too_old(version):
        return fail("server", reason, REMEDY)
    name = server.get("server_name", "")
    return ok("server", f"nats-server {version}" + ("" if name == server.get("server_id") else f", {name}"))


def _payload(limit: int) -> Finding:
    if limit < 64 * _KIB:
        return warn(
            "payload",
            f"messages of at most {_size(limit)}",
            "a state and its unpublished events must fit into one message",
        )
    if limit > 8 * _MIB:
        return warn("payload", f"messages of up to {_size(limit)}", "a max_payload above 8 MiB slows every client down")
    return ok("payload", f"messages of at most {_size(limit)}")


def _storage(account: AccountInfo, varz: Varz | str) -> Finding:
    used, limit = account.storage, account.limits.max_storage
    owner = "the account"
    if isinstance(varz, Varz) and varz.jetstream.config is not None:
        config, stats = varz.jetstream.config, varz.jetstream.stats
        if limit < 0 or config.max_storage - stats.storage < limit - used:
            used, limit, owner = stats.storage, config.max_storage, "the server"
    if limit < 0:
        return ok(
            "storage", f"{_size(used)} used; the account has no limit, that of the server cannot be seen from here"
        )
    text = f"{_size(used)} of {_size(limit)} of {owner} used"
    if used > 0.9 * limit:
        return fail("storage", text, "add storage or delete data: if it is full, every turn is refused")
    if used > 0.7 * limit:
        return warn("storage", text, "if it is full, every turn is refused")
    return ok("storage", text)


def _sync(varz: Varz | str) -> Finding:
    if isinstance(varz, str):
        todo = "pass the monitoring port of the server by --monitor; only `sync_interval: always` survives power loss"
        return warn("disk", f"the sync interval of writes cannot be seen ({varz})", todo)
    config = varz.jetstream.config
    if config is not None and config.sync_always:
        return ok("disk", "each write is synced to disk before it is acknowledged")
    seconds = (config.sync_interval if config is not None else 0) / SECOND
    return warn(
        "disk",
        f"writes are synced every {seconds or 120:g} s: a power loss may lose the acknowledged writes of that time",
        "if that matters: `jetstream { sync_interval: always }`, which costs half to two thirds of the throughput",
    )


def _cluster(server: dict[str, Any], varz: Varz | str, replicas: int) -> Finding:
    if not server.get("cluster"):
        if replicas > 1:
            return fail("cluster", f"no cluster, but {replicas} replicas are wanted", "see deploy/nats/cluster.conf")
        return ok("cluster", "no cluster: one server, one disk")
    meta = varz.jetstream.meta if isinstance(varz, Varz) else None
    size = meta.cluster_size if meta is not None else 0
    text = f"{server['cluster']}" + (f", {size} servers" if size else "")
    if replicas == 1:
        return warn(
            "cluster", f"{text}; one replica is wanted", "use `--replicas 3`, or each stream is on one server only"
        )
    if 0 < size < replicas:
        return fail("cluster", f"{text}, but {replicas} replicas are wanted", "add servers, or use fewer replicas")
    return ok("cluster", f"{text}; {replicas} replicas are wanted")


async def _probe(connection: Connection, jetstream: JetStream, namespace: str, replicas: int) -> AsyncIterator[Finding]:
    """Try once each operation that an actor uses, under a name that no service has."""
    names = Names(f"doctor-{secrets.token_hex(4)}", namespace)
    yield await _request(connection, names)
    try:
        await jetstream.ensure_stream(turns_config(names, replicas))
        try:
            ahead = await _ahead(jetstream, names)
            if connection.server.get("cluster"):
                yield _leader(ahead)
            await _consume(jetstream, names)
        finally:
            await jetstream.delete_stream(names.turns_stream)
        yield ok("streams", "a stream was created, written, read, consumed and deleted, as actors do")
    except (ActorError, TimeoutError) as error:
        yield fail("streams", f"a stream cannot be used as actors use it: {error}", _grant(error))


def _clock(clock: ServerClock, problem: str) -> Finding:
    """Judge the wall clock of this machine. `problem` is `Connection.clock_fault`."""
    if not clock.known:
        todo = "grant the permission to publish on $SYS.REQ.USER.INFO; until then a wrong clock has expired deadlines"
        return warn("clock", problem, todo)
    if problem:
        todo = "synchronize the clocks (NTP): deadlines and timers are right, but times in logs and traces are not"
        return warn("clock", problem, todo)
    relation = "ahead of" if clock.skew > 0 else "behind"
    return ok("clock", f"the clock of this machine is {abs(clock.skew) * 1000:.0f} ms {relation} that of the server")


def _leader(ahead: float) -> Finding:
    """Judge the clock of another server of the cluster, which is ahead of that of the connected server."""
    text = f"the clocks of two servers differ by {abs(ahead) * 1000:.0f} ms"
    if abs(ahead) < TOLERATED:
        return ok("clocks", text)
    todo = "synchronize the clocks of the servers (NTP): deadlines and timers are wrong by as much"
    return fail("clocks", text, todo)


async def _request(connection: Connection, names: Names) -> Finding:
    subject = names.request("query", "probe")

    def answer(_: bytes, reply: bytes, __: bytes | None, payload: bytes) -> None:
        connection.publish(reply, payload)

    try:
        subscription = await connection.subscribe(subject, answer, queue="q")
        try:
            await connection.flush()
            if subscription.error is not None:
                raise subscription.error
            started = time.perf_counter()
            await connection.request(subject, b"", timeout=2.0)
            taken = time.perf_counter() - started
        finally:
            subscription.unsubscribe()
    except (ActorError, TimeoutError) as error:
        return fail("requests", f"a request to {subject} fails: {error}", _grant(error))
    return ok("requests", f"a request takes {taken * 1000:.1f} ms")


async def _ahead(jetstream: JetStream, names: Names) -> float:
    """Return the number of seconds by which the clock of a stream's leader is ahead of that of the connected server.

    The time at which the server stored a message is compared with the middle of the round trip, so the error is at most
    half of the round trip.
    """
    clock, best = jetstream.connection.clock, (float("inf"), 0.0)
    for _ in range(_SAMPLES):
        sent = clock.now()
        ack = await jetstream.publish(names.turn("probe"), b"{}", new_stream=True)
        taken = clock.now() - sent
        stored = await jetstream.get(names.turns_stream, ack.sequence)
        if stored is not None and taken < best[0]:
            best = (taken, stored.time - sent - taken / 2)
    return best[1]


async def _consume(jetstream: JetStream, names: Names) -> None:
    await jetstream.ensure_consumer(
        names.turns_stream, ConsumerConfig(durable="probe", filter_subjects=(names.turn("*"),))
    )
    await jetstream.reset_consumer(names.turns_stream, "probe")


def _grant(error: BaseException) -> str:
    if isinstance(error, PermissionDenied | TimeoutError):
        return "grant the permissions listed in docs/operations.md; a refusal looks like a timeout to the client"
    return "see the log of the server" if isinstance(error, ApiError) else ""


def _size(count: int) -> str:
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if count >= unit:
            return f"{count / unit:.4g} {name}"
    return f"{count} B"
