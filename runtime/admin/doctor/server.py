"""The doctor's look at the server: version, limits, disk, cluster, and a probe of all that actors do to it."""

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
from runtime.storage.streams import turns_config
from runtime.wire.ids import CLOCK_MARGIN
from runtime.wire.subjects import Names

LEAST: Final = (2, 14)
"""The first version with the reset of consumers, which an owner of keys needs."""

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
_SAMPLES: Final = 5
_SKEW: Final = 1.0


async def look_at_server(
    connection: Connection, jetstream: JetStream, *, namespace: str, replicas: int, monitor: str, probe: bool
) -> AsyncIterator[Finding]:
    """Yield what there is to say of the server that `connection` leads to."""
    server = connection.server
    yield _version(server)
    yield _payload(connection.max_payload)
    try:
        account = await jetstream.account()
    except (ActorError, TimeoutError) as error:
        todo = "add `jetstream { store_dir: … }` to its configuration, and enable it for this account"
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
    numbers = tuple(int(part) for part in version.split("-", maxsplit=1)[0].split(".")[:2] if part.isdecimal())
    if numbers < LEAST:
        return fail("server", f"nats-server {version} is too old", "install 2.14 or later: actors with state need it")
    name = server.get("server_name", "")
    return ok("server", f"nats-server {version}" + ("" if name == server.get("server_id") else f", {name}"))


def _payload(most: int) -> Finding:
    if most < 64 * _KIB:
        return warn(
            "payload", f"messages of at most {_size(most)}", "a state with its unpublished events is one message"
        )
    if most > 8 * _MIB:
        return warn("payload", f"messages of up to {_size(most)}", "max_payload above 8 MiB slows everybody down")
    return ok("payload", f"messages of at most {_size(most)}")


def _storage(account: AccountInfo, varz: Varz | str) -> Finding:
    used, most = account.storage, account.limits.max_storage
    whose = "the account's"
    if isinstance(varz, Varz) and varz.jetstream.config is not None:
        config, stats = varz.jetstream.config, varz.jetstream.stats
        if most < 0 or config.max_storage - stats.storage < most - used:
            used, most, whose = stats.storage, config.max_storage, "the server's"
    if most < 0:
        return ok("storage", f"{_size(used)} used; the account has no limit, the server's is not seen from here")
    text = f"{_size(used)} of {whose} {_size(most)} used"
    if used > 0.9 * most:
        return fail("storage", text, "give it more, or remove what is not needed: full, every turn is refused")
    if used > 0.7 * most:
        return warn("storage", text, "full, every turn is refused")
    return ok("storage", text)


def _sync(varz: Varz | str) -> Finding:
    if isinstance(varz, str):
        todo = "name the server's monitoring port by --monitor; power loss is survived only by `sync_interval: always`"
        return warn("disk", f"how writes are synced cannot be seen ({varz})", todo)
    config = varz.jetstream.config
    if config is not None and config.sync_always:
        return ok("disk", "each write is on disk before it is acknowledged")
    seconds = (config.sync_interval if config is not None else 0) / SECOND
    return warn(
        "disk",
        f"writes are synced every {seconds or 120:g} s: a power loss may cost that much of what was acknowledged",
        "where that counts: `jetstream { sync_interval: always }`, which takes half to two thirds of the throughput",
    )


def _cluster(server: dict[str, Any], varz: Varz | str, replicas: int) -> Finding:
    if not server.get("cluster"):
        if replicas > 1:
            return fail("cluster", f"there is none, and {replicas} replicas are wanted", "see deploy/nats/cluster.conf")
        return ok("cluster", "none: one server, one disk")
    meta = varz.jetstream.meta if isinstance(varz, Varz) else None
    size = meta.cluster_size if meta is not None else 0
    text = f"{server['cluster']}" + (f", {size} servers" if size else "")
    if replicas == 1:
        return warn("cluster", f"{text}; one replica is wanted", "`--replicas 3`: else one server holds each stream")
    if 0 < size < replicas:
        return fail("cluster", f"{text}, and {replicas} replicas are wanted", "add servers, or want fewer")
    return ok("cluster", f"{text}; {replicas} replicas are wanted")


async def _probe(connection: Connection, jetstream: JetStream, namespace: str, replicas: int) -> AsyncIterator[Finding]:
    """Do once what an actor does all the time, under a name that is nobody's."""
    names = Names(f"doctor-{secrets.token_hex(4)}", namespace)
    yield await _request(connection, names)
    try:
        await jetstream.ensure_stream(turns_config(names, replicas))
        try:
            yield _clock(await _skew(jetstream, names))
            await _consume(jetstream, names)
        finally:
            await jetstream.delete_stream(names.turns_stream)
        yield ok("streams", "created, written, read, consumed and deleted: all that actors use is there")
    except (ActorError, TimeoutError) as error:
        yield fail("streams", f"a stream cannot be used as actors do: {error}", _grant(error))


def _clock(skew: float) -> Finding:
    text = f"the server's is {abs(skew) * 1000:.0f} ms {'ahead of' if skew > 0 else 'behind'} ours"
    if abs(skew) >= CLOCK_MARGIN:
        return fail("clock", text, "synchronize the clocks (NTP): ids may be taken for new that are known")
    if abs(skew) >= _SKEW:
        return warn("clock", text, f"synchronize the clocks (NTP): {CLOCK_MARGIN:g} s are the most that is safe")
    return ok("clock", text)


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
            begun = time.perf_counter()
            await connection.request(subject, b"", timeout=2.0)
            taken = time.perf_counter() - begun
        finally:
            subscription.unsubscribe()
    except (ActorError, TimeoutError) as error:
        return fail("requests", f"a request to {subject} fails: {error}", _grant(error))
    return ok("requests", f"a request and its reply take {taken * 1000:.1f} ms")


async def _skew(jetstream: JetStream, names: Names) -> float:
    """Return by how many seconds the server's clock is ahead: the time that it stored a message at, beside ours."""
    best = (float("inf"), 0.0)
    for _ in range(_SAMPLES):
        sent = time.time()
        ack = await jetstream.publish(names.turn("probe"), b"{}")
        taken = time.time() - sent
        stored = await jetstream.get(names.turns_stream, ack.sequence)
        if stored is not None and taken < best[0]:
            # Half of the way is there: the error is at most the other half.
            best = (taken, stored.time - sent - taken / 2)
    return best[1]


async def _consume(jetstream: JetStream, names: Names) -> None:
    await jetstream.ensure_consumer(
        names.turns_stream, ConsumerConfig(durable="probe", filter_subjects=(names.turn("*"),))
    )
    await jetstream.reset_consumer(names.turns_stream, "probe")


def _grant(error: BaseException) -> str:
    if isinstance(error, PermissionDenied | TimeoutError):
        return "grant the user what docs/operations.md lists; a refusal looks like a time-out to who asks"
    return "see what the server's log says" if isinstance(error, ApiError) else ""


def _size(count: int) -> str:
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if count >= unit:
            return f"{count / unit:.4g} {name}"
    return f"{count} B"
