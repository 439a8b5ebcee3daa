"""The monitoring port of a server: the sync interval of writes and the size of the storage."""

from typing import Any, Final
from urllib.request import urlopen

import msgspec

DEFAULT_PORT: Final = 8222
_TIMEOUT: Final = 1.0


class JetStreamConfig(msgspec.Struct):
    """The configuration of JetStream. Sizes are in bytes, `sync_interval` is in nanoseconds."""

    max_storage: int = 0
    store_dir: str = ""
    sync_interval: int = 0
    sync_always: bool = False


class JetStreamStats(msgspec.Struct):
    """The storage in use, in bytes."""

    storage: int = 0
    reserved_storage: int = 0


class Meta(msgspec.Struct):
    """The group of servers that keeps the metadata of JetStream."""

    cluster_size: int = 0


class JetStreamVarz(msgspec.Struct):
    """JetStream in /varz. It is off if `config` is None."""

    config: JetStreamConfig | None = None
    stats: JetStreamStats = msgspec.field(default_factory=JetStreamStats)
    meta: Meta | None = None


class Varz(msgspec.Struct):
    """The fields of /varz that the doctor reads."""

    server_id: str = ""
    jetstream: JetStreamVarz = msgspec.field(default_factory=JetStreamVarz)


def read_varz(address: str, server: dict[str, Any]) -> Varz | str:
    """Read /varz of a server.

    Args:
        address: The URL of the monitoring port.
        server: The INFO of the server. An answer of another server is refused.

    Returns:
        The content, or a text with the reason why it cannot be read.
    """
    url = f"{address.rstrip('/')}/varz"
    try:
        with urlopen(url, timeout=_TIMEOUT) as answer:
            varz = msgspec.json.decode(answer.read(), type=Varz)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        return f"{url}: {error}"
    if varz.server_id != server.get("server_id"):
        return f"{url} belongs to another server"
    return varz
