"""Queries and commands of the command line: plain JSON, without message classes."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from runtime.admin import discovery
from runtime.cli.client import Target, connected, raw_client
from runtime.cli.failures import NOT_FOUND, TIMEOUT, Failure, exit_code
from runtime.cli.output import print_json, print_note
from runtime.cli.payload import body, is_pairs
from runtime.client.raw import RawReply
from runtime.errors import DeadlineExceeded, NotDelivered, RemoteError
from runtime.host.config import Configuration
from runtime.nats.connection import Connection, NoResponders
from runtime.wire.ids import new_id


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
        command_id = new_id() if request.id is None else request.id
        service, word = request.target.service, request.target.word
        try:
            if request.op == "query":
                reply = await client.query(service, word, payload, headers=request.headers)
            else:
                reply = await client.command(service, word, payload, id=command_id, headers=request.headers)
        except NotDelivered as error:
            if not isinstance(error.__cause__, NoResponders):
                raise (error.__cause__ or error) from None  # the error of the connection has an exit code of its own
            raise Failure(await _missing(connection, request), NOT_FOUND) from None
        except DeadlineExceeded as error:
            late = isinstance(error.__cause__, TimeoutError)
            text = f"{subject}: no reply within {client.timeout:g} s" if late else str(error)
            if request.op == "command":
                text += f"; it is unknown whether it took effect; repeat it with --id {command_id}"
            raise Failure(text, TIMEOUT) from None
    await _print(request, reply)


async def _missing(connection: Connection, request: Request) -> str:
    """Return an error message that suggests an operation that exists."""
    found = await discovery.services(connection)
    text = f"no service has the {request.op} {request.target}"
    if any(
        endpoint.name == request.target.word and endpoint.metadata.op not in ("", request.op)
        for service in found
        if service.name == request.target.service
        for endpoint in service.endpoints
    ):
        other = "command" if request.op == "query" else "query"
        return f"{text}: it is a {other}, use `actorloom {other}`"
    if matches := discovery.nearest(str(request.target), found):
        return f"{text}: did you mean {' or '.join(matches)}?"
    return f"{text}; `actorloom ls` lists the running services" if found else f"{text}: no service is running"


async def _print(request: Request, reply: RawReply) -> None:
    if request.trace or request.jaeger:
        await _print_trace(reply.trace_id, request.jaeger)
    if (error := reply.error) is not None:
        kind = error.kind if isinstance(error, RemoteError) else type(error).__name__
        raise Failure(f"{error.code} {kind}: {error}", exit_code(error))
    print_json(reply.payload or b"null")


async def _print_trace(trace_id: str | None, jaeger: str | None) -> None:
    if trace_id is None:
        print_note("no trace: the service exports none; set OTEL_EXPORTER_OTLP_ENDPOINT for its process")
        return
    print_note(f"trace {trace_id}")
    if jaeger is not None:
        from runtime.cli.jaeger import trace_tree

        print_note(await trace_tree(jaeger, trace_id))
