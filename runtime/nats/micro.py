"""Discovery by NATS micro (ADR-32 of NATS): responds to PING, INFO and STATS for endpoints that are served elsewhere."""

import logging
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from runtime.errors import DeclarationError, PublishError
from runtime.nats.connection import Connection, Subscription
from runtime.wire.subjects import valid_version

logger = logging.getLogger("actorloom.nats")

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_SCHEMAS: Final = ("request", "response")
"""The metadata of endpoints that is omitted if the response would otherwise exceed the server's limit."""


class Stats(Protocol):
    """The counters of one endpoint, as discovery reads them. Times are nanoseconds."""

    @property
    def requests(self) -> int: ...
    @property
    def errors(self) -> int: ...
    @property
    def last_error(self) -> str: ...
    @property
    def processing_ns(self) -> int: ...


class EndpointStats:
    """The counters of one endpoint, to which its server adds. Times are nanoseconds."""

    __slots__ = ("errors", "last_error", "processing_ns", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.last_error = ""
        self.processing_ns = 0


class Endpoint:
    """An endpoint as discovery announces it. Its server replaces `stats`, or adds to it.

    Args:
        name: Letters, digits, dashes and underscores.
        subject: The subject of the endpoint's requests.
        queue_group: The queue group of its subscription.
        metadata: Texts by name; the prefix ``_nats`` is reserved.

    Raises:
        DeclarationError: The name or the metadata is invalid.
    """

    __slots__ = ("metadata", "name", "queue_group", "stats", "subject")

    def __init__(
        self, name: str, subject: str, queue_group: str = "q", metadata: Mapping[str, str] | None = None
    ) -> None:
        _check_name("endpoint", name)
        self.name = name
        self.subject = subject
        self.queue_group = queue_group
        self.metadata = _checked_metadata(f"endpoint {name}", metadata)
        self.stats: Stats = EndpointStats()


class MicroService:
    """Announces one instance of a service from `start` to `stop`.

    Args:
        connection: The connection, which the caller closes.
        name: Letters, digits, dashes and underscores.
        version: A version by SemVer, for example ``1.2.3``.
        description: A text for people.
        metadata: Texts by name; the prefix ``_nats`` is reserved.
        endpoints: The endpoints, each with a name of its own.
        data: Returns further figures of the instance, for the response to STATS.

    Raises:
        DeclarationError: An argument is not allowed by ADR-32.
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        version: str,
        description: str = "",
        metadata: Mapping[str, str] | None = None,
        endpoints: Sequence[Endpoint] = (),
        data: Callable[[], Mapping[str, int]] | None = None,
    ) -> None:
        _check_name("service", name)
        if not valid_version(version):
            raise DeclarationError(f"service {name}: version {version!r} is not SemVer (as 1.2.3)")
        if len({endpoint.name for endpoint in endpoints}) < len(endpoints):
            raise DeclarationError(f"service {name}: two endpoints have the same name")
        self.id = secrets.token_hex(11)
        """Unique to this instance."""
        self.name = name
        self.version = version
        self.description = description
        self.metadata = _checked_metadata(f"service {name}", metadata)
        self.endpoints = tuple(endpoints)
        self._data = data
        self._connection = connection
        self._subscriptions: list[Subscription] = []
        self._started = ""

    async def start(self) -> None:
        """Start responding.

        Raises:
            PublishError: The connection is closed.
        """
        self._started = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        ping, info = self._encode("ping"), self._info()
        answers: dict[str, Callable[[], bytes]] = {"PING": lambda: ping, "INFO": lambda: info, "STATS": self._stats}
        for verb, answer in answers.items():
            receiver = partial(self._answer, answer)
            for subject in (f"$SRV.{verb}", f"$SRV.{verb}.{self.name}", f"$SRV.{verb}.{self.name}.{self.id}"):
                self._subscriptions.append(await self._connection.subscribe(subject, receiver))

    def stop(self) -> None:
        """Stop responding. Further calls do nothing."""
        while self._subscriptions:
            self._subscriptions.pop().unsubscribe()

    def _answer(
        self, answer: Callable[[], bytes], subject: bytes, reply: bytes, headers: bytes | None, payload: bytes
    ) -> None:
        # Inboxes begin with an underscore, imported ones too. A response to another subject, such as `$JS.API…`, would be a
        # call with our permissions on behalf of the caller.
        if not reply.startswith(b"_"):
            return
        try:
            self._connection.publish(reply, answer())
        except PublishError as error:
            logger.warning("service %s did not respond to %s: %s", self.name, subject.decode("utf-8", "replace"), error)

    def _info(self) -> bytes:
        described = [
            {"name": each.name, "subject": each.subject, "queue_group": each.queue_group, "metadata": each.metadata}
            for each in self.endpoints
        ]
        info = self._encode("info", description=self.description, endpoints=described)
        if len(info) <= self._connection.max_payload:
            return info
        for each, endpoint in zip(described, self.endpoints, strict=True):
            each["metadata"] = _without_schemas(endpoint.metadata)
        return self._encode("info", description=self.description, endpoints=described)

    def _stats(self) -> bytes:
        counted = [
            {
                "name": each.name,
                "subject": each.subject,
                "queue_group": each.queue_group,
                "num_requests": each.stats.requests,
                "num_errors": each.stats.errors,
                "last_error": each.stats.last_error,
                "processing_time": each.stats.processing_ns,
                "average_processing_time": each.stats.processing_ns // max(each.stats.requests, 1),
            }
            for each in self.endpoints
        ]
        data = {} if self._data is None else {"data": self._data()}
        return self._encode("stats", started=self._started, endpoints=counted, **data)

    def _encode(self, kind: str, **more: Any) -> bytes:
        return msgspec.json.encode(
            {
                "type": f"io.nats.micro.v1.{kind}_response",
                "name": self.name,
                "id": self.id,
                "version": self.version,
                "metadata": self.metadata,
                **more,
            }
        )


def _check_name(owner: str, name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise DeclarationError(f"{owner} name {name!r}: only letters, digits, dash and underscore are allowed (ADR-32)")


def _checked_metadata(owner: str, metadata: Mapping[str, str] | None) -> dict[str, str]:
    checked = dict(metadata or {})
    for key, value in checked.items():
        if key.startswith("_nats") or not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DeclarationError(f"{owner}: metadata {key!r} is reserved, or its value is not text (ADR-32)")
    return checked


def _without_schemas(metadata: Mapping[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in metadata.items() if key not in _SCHEMAS}
    return {**kept, "schemas": "omitted"} if len(kept) < len(metadata) else kept
