"""Plain client: a program in another process that uses only NATS and JSON, without Actorloom.

A client in any language needs the same four things: requests to subjects, JSON bodies, optional headers, and a consumer on
a stream. This one uses nats-py. Serve the counter (see counter.py), and run the client in another terminal::

    actorloom run examples.counter
    python examples/plain_client.py          # on NATS_URL, or nats://127.0.0.1:4222

It prints::

    counter.add: {'name': 'figs', 'value': 2}
    counter.add again, under the same id: {'name': 'figs', 'value': 2}
    counter.get_count: {'name': 'figs', 'value': 2}
    400 InvalidMessage: counter.command.add: Expected `int`, got `str` - at `$.by`
    404 NotFound: nothing was counted as dates
    409 Rejected: figs cannot be less than 0
    no service: counter.command.multiply
    event counter.CountChanged figs {'name': 'figs', 'value': 2}
    event counter.CountChanged figs {'name': 'figs', 'value': 5}
"""

import asyncio
import json
import os
import sys
from typing import Any

import nats
from nats.aio.client import Client
from nats.errors import NoRespondersError, NoServersError


class Refused(Exception):
    """An error reply."""


async def ask(client: Client, subject: str, body: dict[str, Any], **headers: str) -> Any:
    """Send JSON and return the JSON of the reply."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = await client.request(subject, json.dumps(body).encode(), timeout=5, headers=named or None)
    # An error reply has a header with a code as in HTTP. Its body has the kind, a message, and `executed`: whether the
    # command took effect (true or false; null if unknown, then send it again with the same id).
    if reply.headers and "Nats-Service-Error-Code" in reply.headers:
        error = json.loads(reply.data)["error"]
        raise Refused(f"{error['code']} {error['kind']}: {error['message']}")
    return json.loads(reply.data)


async def events(client: Client, stream: str, subject: str, count: int) -> None:
    """Print the first `count` events of the stream. They are CloudEvents: the body is the data, the headers are the rest."""
    # With a durable name the server would keep the position of the consumer between runs of the program.
    subscription = await client.jetstream().pull_subscribe(subject, stream=stream)
    for message in await subscription.fetch(count, timeout=5):
        headers = message.headers or {}
        print("event", headers["ce-type"], headers["ce-subject"], json.loads(message.data))
        await message.ack()
    await subscription.unsubscribe()


async def ignore(error: Exception) -> None:
    """Log nothing: the exception of `connect` says enough."""


async def main() -> None:
    url = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
    try:
        client = await nats.connect(url, allow_reconnect=False, max_reconnect_attempts=1, error_cb=ignore)
    except (NoServersError, OSError):
        sys.exit(f"no NATS server at {url}; first run: actorloom run examples.counter")

    # With an idempotency key a command is safe to repeat: it takes effect once, and both requests get the reply.
    add = {"name": "figs", "by": 2}
    print("counter.add:", await ask(client, "counter.command.add", add, Idempotency_Key="figs-1"))
    reply = await ask(client, "counter.command.add", add, Idempotency_Key="figs-1")
    print("counter.add again, under the same id:", reply)
    print("counter.get_count:", await ask(client, "counter.query.get_count", {"name": "figs"}))

    wrong: list[tuple[str, dict[str, Any]]] = [
        ("counter.command.add", {"name": "figs", "by": "two"}),
        ("counter.query.get_count", {"name": "dates"}),
        ("counter.command.add", {"name": "figs", "by": -10}),
        ("counter.command.multiply", {"name": "figs", "by": 2}),
    ]
    for subject, body in wrong:
        try:
            await ask(client, subject, body)
        except Refused as refusal:
            print(refusal)
        except NoRespondersError:
            print("no service:", subject)

    # Without a key the service assigns an id, so a repeated command takes effect again.
    await ask(client, "counter.command.add", {"name": "figs", "by": 3})
    await events(client, "counter-events", "counter.event.count_changed.*.figs", count=2)
    await client.drain()


if __name__ == "__main__":
    asyncio.run(main())
