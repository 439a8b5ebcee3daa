"""Queries and commands of the command line: plain JSON, without message classes."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from runtime.admin import discovery
from runtime.cli.client import Target, connected, names
from runtime.cli.failures import NOT_FOUND, TIMEOUT, Failure, exit_code
from runtime.cli.output import print_json, print_note
from runtime.cli.payload import body, is_pairs
from runtime.host.config import Configuration
from runtime.nats.connection import Connection, NoResponders, Response
from runtime.wire import header_block
from runtime.wire.ids import new_id
from runtime.wire.replies import read_error


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A query or command with the arguments of the command line."""

    op: str
    target: Target
    arguments: Sequence[str]
    id: str | None = None
    headers: Sequence[tuple[str, str]] = ()
    trace: bool = False
    jaeger: str | None = None


async def send(configuration: Configuration, request: Request) -> None:
    """Send a request and print its reply. Raises `Failure` if there is no reply, or if it is an error."""
    subject = names(configuration, request.target.service).request(request.op, request.target.word)
    timeout = configuration.settings.timeout
    async with connected(configuration) as connection:
        schema = None
        if is_pairs(request.arguments):
            found = await discovery.endpoint(connection, request.target.service, subject)
            schema = found.schema("request") if found is not None else None
        payload = body(request.arguments, schema)
        command_id = (request.id or new_id()) if request.op == "command" else None
        block = _headers(request, command_id, timeout)
        try:
            response = await connection.request(subject, payload, headers=block, timeout=timeout)
        except NoResponders:
            raise Failure(await _missing(connection, request), NOT_FOUND) from None
        except TimeoutError:
            unknown = f"; it is unknown whether it took effect; repeat it with --id {command_id}" if command_id else ""
            raise Failure(f"{subject}: no reply within {timeout:g} s{unknown}", TIMEOUT) from None
    await _print(request, response)


def _headers(request: Request, command_id: str | None, timeout: float) -> bytes:
    pairs = [(header_block.DEADLINE.decode(), str(int((time.time() + timeout) * 1000)))]
    if command_id is not None:
        pairs.append((header_block.IDEMPOTENCY_KEY.decode(), command_id))
    return header_block.encode([*pairs, *request.headers])


async def _missing(connection: Connection, request: Request) -> str:
    """Return an error message that suggests an operation that exists."""
    found = await discovery.services(connection)
    text = f"no service has the {request.op} {request.target}"
    if any(
        endpoint.name == request.target.word and endpoint.op not in ("", request.op)
        for service in found
        if service.name == request.target.service
        for endpoint in service.endpoints
    ):
        other = "command" if request.op == "query" else "query"
        return f"{text}: it is a {other}, use `actorloom {other}`"
    if matches := discovery.nearest(str(request.target), found):
        return f"{text}: did you mean {' or '.join(matches)}?"
    return f"{text}; `actorloom ls` lists the running services" if found else f"{text}: no service is running"


async def _print(request: Request, response: Response) -> None:
    if request.trace or request.jaeger:
        await _print_trace(response, request.jaeger)
    if header_block.get(response.headers, header_block.SERVICE_ERROR_CODE) is not None:
        error: Any = read_error(response.headers or b"", response.payload)
        raise Failure(f"{error.code} {getattr(error, 'kind', '') or type(error).__name__}: {error}", exit_code(error))
    print_json(response.payload or b"null")


async def _print_trace(response: Response, jaeger: str | None) -> None:
    parent = header_block.get(response.headers, header_block.TRACERESPONSE)
    if parent is None or parent.count("-") != 3:
        print_note("no trace: the service exports none; set OTEL_EXPORTER_OTLP_ENDPOINT for its process")
        return
    trace_id = parent.split("-")[1]
    print_note(f"trace {trace_id}")
    if jaeger is not None:
        from runtime.cli.jaeger import trace_tree

        print_note(await trace_tree(jaeger, trace_id))
