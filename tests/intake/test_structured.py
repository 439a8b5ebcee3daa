"""CloudEvents in structured mode are read, and formats that are not supported become dead letters with a clear reason."""

import base64
import json
from typing import Any

import pytest

from runtime import Actor, Event, react
from runtime.nats.server import EmbeddedServer
from runtime.storage.dead_letters import read_failure
from runtime.telemetry import inject
from runtime.wire import header_block
from runtime.wire.cloudevents import event_headers
from runtime.wire.tokens import key_token
from tests.support.probe import Probe, running

SEEN: list[tuple[str, int, str, str]] = []
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
JSON = "application/cloudevents+json"


class SampleTaken(Event, actor="samples", key="name"):
    name: str
    value: int = 0


class Samples(Actor):
    name = "samples"

    @react
    async def on_sample_taken(self, event: SampleTaken) -> None:
        SEEN.append((event.name, event.value, self.message_id, inject().decode()))

    @react(where={"value": [{"numeric": [">", 5]}]})
    async def on_large_sample(self, event: SampleTaken) -> None:
        SEEN.append(("large", event.value, self.message_id, ""))


def envelope(number: int, **changes: Any) -> dict[str, Any]:
    """Return an event in structured mode. A change to None removes the attribute."""
    event = {
        "specversion": "1.0",
        "id": f"id-{number}",
        "source": "/elsewhere",
        "type": "samples.SampleTaken",
        "extension": {"any": 1},
        "data": {"name": f"n{number}", "value": number},
        **changes,
    }
    return {name: value for name, value in event.items() if value is not None}


async def publish(system: Probe, namespace: str, body: bytes, *headers: tuple[str, str]) -> None:
    subject = f"{namespace}.samples.event.sample_taken.k"
    await system.jetstream.publish(subject, body, headers=header_block.encode(headers))


async def test_an_event_in_structured_mode_is_handled_with_its_id_and_trace(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    SEEN.clear()
    data = base64.b64encode(b'{"name": "n4", "value": 4}').decode()
    events: list[tuple[str, dict[str, Any], list[tuple[str, str]]]] = [
        (JSON, envelope(1), []),
        ("Application/CloudEvents+JSON; charset=utf-8", envelope(2, traceparent=f"00-{TRACE}-00f067aa0ba902b7-01"), []),
        (
            JSON,
            envelope(3, datacontenttype="application/vnd.x+json"),
            [("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")],
        ),
        (JSON, envelope(4, data=None, data_base64=data), []),
        (JSON, envelope(9), [("ce-id", "other")]),
        (JSON, envelope(1), []),
    ]
    async with running(Samples, url=nats_server.url, namespace=namespace) as system:
        for content_type, event, headers in events:
            await publish(system, namespace, json.dumps(event).encode(), *headers, ("content-type", content_type))
        await system.until(lambda: len(SEEN) == 7)
        plain = sorted(each[:3] for each in SEEN if each[0] != "large")
        assert plain == [(f"n{n}", n, f"id-{n}.on_sample_taken") for n in (1, 1, 2, 3, 4, 9)]
        assert [each[:3] for each in SEEN if each[0] == "large"] == [("large", 9, "id-9.on_large_sample")]
        assert [each[1] for each in SEEN if TRACE in each[3]] == [2, 3]
        assert not await system.stored_dead_letters("samples")


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        ("application/cloudevents-batch+json", json.dumps([envelope(1)]), "a batch of events (application/cloudevents-batch+json)"),
        ("application/cloudevents+avro", "x", "the event format 'application/cloudevents+avro' is not supported"),
        ("application/cloudevents", "{}", "the event format 'application/cloudevents' is not supported"),
        (JSON, "{", "the body is not an event in JSON"),
        (JSON, json.dumps(envelope(1, id=None)), "missing required field `id`"),
        (JSON, json.dumps(envelope(1, id="")), "cannot be empty"),
        (JSON, json.dumps(envelope(1, specversion="0.3")), "specversion '0.3' is not supported: send 1.0"),
        (JSON, json.dumps(envelope(1, datacontenttype="text/xml", data="<a/>")), "datacontenttype 'text/xml' is not supported"),
        (JSON, json.dumps(envelope(1, data_base64="e30=")), "the event has both data and data_base64"),
        (JSON, json.dumps(envelope(1, data=None, data_base64="?")), "data_base64 is not base64"),
        (JSON, json.dumps(envelope(1, data={"name": 1})), "Expected `str`, got `int` - at `$.name`"),
        (JSON, json.dumps(envelope(1, data=None)), "missing required field `name`"),
    ],
)  # fmt: skip
async def test_an_event_that_cannot_be_read_is_a_dead_letter_with_its_reason(
    nats_server: EmbeddedServer, namespace: str, content_type: str, body: str, reason: str
) -> None:
    async with running(Samples, url=nats_server.url, namespace=namespace) as system:
        await publish(system, namespace, body.encode(), ("Content-Type", content_type))
        letters = await _dead_letters(system)
        assert letters and all(reason in read_failure(each.headers).reason for each in letters)
        assert {each.payload for each in letters} == {body.encode()}
        assert {header_block.get(each.headers, b"content-type") for each in letters} == {content_type}


async def _dead_letters(system: Probe) -> list[Any]:
    found: list[Any] = []
    for _ in range(200):
        found = await system.stored_dead_letters("samples")
        if found:
            break
    return found


async def test_a_redriven_event_in_structured_mode_is_read(nats_server: EmbeddedServer, namespace: str) -> None:
    SEEN.clear()
    async with running(Samples, url=nats_server.url, namespace=namespace) as system:
        headers = header_block.encode(
            [("content-type", JSON), ("Dead-Reaction", "on_sample_taken"), ("Dead-Id", "id-5.on_sample_taken")]
        )
        subject = f"{namespace}.samples.redrive.sample_taken.n5"
        await system.jetstream.publish(subject, json.dumps(envelope(5)).encode(), headers=headers)
        await system.until(lambda: bool(SEEN))
        assert SEEN[0][:3] == ("n5", 5, "id-5.on_sample_taken")


@pytest.mark.parametrize(
    "key", ["a\nb", "\x00", "\x1b[2J", "\x7f", "\x85", "\ufffe", "\ufdd0", "\ud800", "%\t", "a b", "ü", '"%']
)
def test_the_subject_of_an_event_is_a_valid_string_of_cloudevents(key: str) -> None:
    from urllib.parse import unquote

    block = event_headers("samples", "SampleTaken", "i", key_token(key), 0.0)
    value = header_block.parse(block)["ce-subject"]
    assert value.isascii() and value.isprintable() and " " not in value and '"' not in value
    decoded = unquote(value, errors="strict")
    assert not any(
        ord(c) < 32 or 127 <= ord(c) < 160 or 0xFDD0 <= ord(c) <= 0xFDEF or ord(c) & 0xFFFE == 0xFFFE for c in decoded
    )
    assert decoded in (key, key_token(key))
