"""Queries and commands by plain JSON: no message class is needed, the service says what it wants."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from runtime.admin import discovery
from runtime.cli.client import Target, connected, names
from runtime.cli.failures import NOBODY, TIMEOUT, Failure, exit_code
from runtime.cli.output import print_json, say
from runtime.cli.payload import body, is_pairs
from runtime.host.config import Configuration
from runtime.nats.connection import Connection, NoResponders, Response
from runtime.wire import header_block
from runtime.wire.ids import new_id
from runtime.wire.replies import read_error


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A query or command as the command line has it."""

    op: str
    target: Target
    arguments: Sequence[str]
    id: str | None = None
    headers: Sequence[tuple[str, str]] = ()
    trace: bool = False
    jaeger: str | None = None


async def send(configuration: Configuration, request: Request) -> None:
    """Send a request, and print its reply. Raises `Failure` where it has none, or an error."""
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
            raise Failure(await _nobody(connection, request), NOBODY) from None
        except TimeoutError:
            again = f"; whether it was done is unknown: the same with --id {command_id} is safe" if command_id else ""
            raise Failure(f"{subject}: no answer within {timeout:g} s{again}", TIMEOUT) from None
    await _print(request, response)


def _headers(request: Request, command_id: str | None, timeout: float) -> bytes:
    pairs = [(header_block.DEADLINE.decode(), str(int((time.time() + timeout) * 1000)))]
    if command_id is not None:
        pairs.append((header_block.IDEMPOTENCY_KEY.decode(), command_id))
    return header_block.encode([*pairs, *request.headers])


async def _nobody(connection: Connection, request: Request) -> str:
    """Say who is there instead."""
    found = await discovery.services(connection)
    text = f"nobody serves {request.op} {request.target}"
    if any(
        endpoint.name == request.target.word and endpoint.op not in ("", request.op)
        for service in found
        if service.name == request.target.service
        for endpoint in service.endpoints
    ):
        other = "command" if request.op == "query" else "query"
        return f"{text}: it is a {other}, use `actorloom {other}`"
    near = discovery.nearest(str(request.target), found)
    if near:
        return f"{text}: did you mean {' or '.join(near)}?"
    return f"{text}; `actorloom ls` shows who is there" if found else f"{text}: no service is there"


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
        say("no trace: the service records none (it does with OTEL_EXPORTER_OTLP_ENDPOINT set where it runs)")
        return
    trace_id = parent.split("-")[1]
    say(f"trace {trace_id}")
    if jaeger is not None:
        from runtime.cli.jaeger import trace_tree

        say(await trace_tree(jaeger, trace_id))
