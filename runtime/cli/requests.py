"""Queries and commands of the command line: plain JSON, without message classes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal

import msgspec

from runtime.admin import discovery
from runtime.cli.client import Target, connected, names, raw_client
from runtime.cli.failures import NOT_FOUND, TIMEOUT, Failure, described, exit_code
from runtime.cli.output import print_json, print_note
from runtime.cli.payload import body, is_pairs
from runtime.client.raw import RawReply, Unowned
from runtime.errors import DeadlineExceeded, NotDelivered
from runtime.host.config import Configuration
from runtime.nats.connection import Connection, NoResponders
from runtime.wire.ids import new_id

_PAUSE: Final = 0.05
"""Seconds between two attempts to reach the owner of a partition."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A query or command with the arguments of the command line."""

    op: Literal["query", "command"]
    target: Target
    arguments: Sequence[str]
    id: str | None = None
    headers: Sequence[tuple[str, str]] = ()
    trace: bool = False
    jaeger: str | None = None


async def send(configuration: Configuration, request: Request) -> None:
    """Send a request and print its reply. Raises `Failure` if there is no reply, or if it is an error."""
    async with connected(configuration) as connection:
        client = raw_client(configuration, connection)
        subject = client.subject(request.op, request.target.service, request.target.word)
        schema = None
        if is_pairs(request.arguments):
            found = await discovery.endpoint(connection, request.target.service, subject)
            schema = found.metadata.request if found is not None else None
        payload = body(request.arguments, schema)
        command_id = new_id(connection.clock.now()) if request.id is None else request.id
        service, word = request.target.service, request.target.word

        async def attempt() -> RawReply:
            if request.op == "query":
                return await client.query(service, word, payload, headers=request.headers)
            return await client.command(service, word, payload, id=command_id, headers=request.headers)

        try:
            reply = await _unless_taken_over(configuration, connection, service, attempt)
        except NotDelivered as error:
            if not isinstance(error.__cause__, NoResponders):
                raise (error.__cause__ or error) from None  # the error of the connection has an exit code of its own
            raise Failure(await _missing(connection, request, configuration.settings.namespace), NOT_FOUND) from None
        except DeadlineExceeded as error:
            late = isinstance(error.__cause__, TimeoutError)
            text = f"{subject}: no reply within {client.timeout:g} s" if late else str(error)
            if request.op == "command":
                text += f"; it is unknown whether it took effect; repeat it with --id {command_id}"
            raise Failure(text, TIMEOUT) from None
    await _print(request, reply)


async def _unless_taken_over(
    configuration: Configuration, connection: Connection, service: str, attempt: Callable[[], Awaitable[RawReply]]
) -> RawReply:
    """Return the reply of `attempt`. While another process is about to serve, an undelivered request is sent again."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + configuration.settings.timeout
    noted = False
    while True:
        try:
            return await attempt()
        except Unowned:
            if loop.time() > deadline:
                raise
            if not noted:
                print_note(
                    f"the partition of the key has no owner at the moment; a process of {service} is about to take it"
                )
            noted = True
            await asyncio.sleep(_PAUSE)
        except NotDelivered as error:
            if loop.time() > deadline or not isinstance(error.__cause__, NoResponders):
                raise
            if noted:
                continue  # a standby that has the lease answers no more, and receives requests a moment later
            standby = names(configuration, service).standby()
            if not await connection.is_served(standby, timeout=discovery.PATIENCE):
                raise
            print_note(f"{service} has no owner at the moment; a standby process is about to take over")
            noted = True


async def _missing(connection: Connection, request: Request, namespace: str) -> str:
    """Return an error message that suggests an operation that exists, in this namespace or in another one."""
    everywhere = await discovery.services(connection)
    found = [service for service in everywhere if service.metadata.namespace == namespace]
    text = f"no service has the {request.op} {request.target}"
    if any(
        endpoint.name == request.target.word and endpoint.metadata.op not in ("", request.op)
        for service in found
        if service.name == request.target.service
        for endpoint in service.endpoints
    ):
        other = "command" if request.op == "query" else "query"
        return f"{text}: it is a {other}, use `actorloom {other}`"
    elsewhere = {
        service.metadata.namespace
        for service in everywhere
        if service.name == request.target.service and request.target.word in {each.name for each in service.endpoints}
    }
    if elsewhere and not any(service.name == request.target.service for service in found):
        flags = " or ".join(f"--namespace {other or chr(34) * 2}" for other in sorted(elsewhere))
        return f"{text} in namespace {namespace!r}: it runs in another one, use {flags}"
    if matches := discovery.nearest(str(request.target), found):
        return f"{text}: did you mean {' or '.join(matches)}?"
    if found:
        return f"{text}; `actorloom ls` lists the running services"
    place = f" in namespace {namespace!r}" if namespace else ""
    return f"{text}: no service is running{place}"


async def _print(request: Request, reply: RawReply) -> None:
    if request.trace or request.jaeger:
        await _print_trace(reply.trace_id, request.jaeger)
    if (error := reply.error) is not None:
        raise Failure(described(error), exit_code(error))
    print_json(reply.payload or b"null")


async def _print_trace(trace_id: str | None, jaeger: str | None) -> None:
    if trace_id is None:
        print_note("no trace: the service exports none; set OTEL_EXPORTER_OTLP_ENDPOINT for its process")
        return
    print_note(f"trace {trace_id}")
    if jaeger is not None:
        from runtime.cli.jaeger import trace_tree

        print_note(await trace_tree(jaeger, trace_id))
