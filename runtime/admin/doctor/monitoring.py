"""What only a server's monitoring port tells: how writes are synced, and how much storage there is."""

from typing import Any, Final
from urllib.request import urlopen

import msgspec

DEFAULT_PORT: Final = 8222
_TIMEOUT: Final = 1.0


class JetStreamConfig(msgspec.Struct):
    """How JetStream is set; sizes in bytes, `sync_interval` in nanoseconds."""

    max_storage: int = 0
    store_dir: str = ""
    sync_interval: int = 0
    sync_always: bool = False


class JetStreamStats(msgspec.Struct):
    """How much of it is in use, in bytes."""

    storage: int = 0
    reserved_storage: int = 0


class Meta(msgspec.Struct):
    """The group of the servers that keep JetStream's own records."""

    cluster_size: int = 0


class JetStreamVarz(msgspec.Struct):
    """JetStream in /varz; without `config` it is off."""

    config: JetStreamConfig | None = None
    stats: JetStreamStats = msgspec.field(default_factory=JetStreamStats)
    meta: Meta | None = None


class Varz(msgspec.Struct):
    """What we read of /varz."""

    server_id: str = ""
    jetstream: JetStreamVarz = msgspec.field(default_factory=JetStreamVarz)


def read_varz(address: str, server: dict[str, Any]) -> Varz | str:
    """Return /varz at `address` (a URL), or why it cannot be had; `server` is the INFO of the server that is meant."""
    url = f"{address.rstrip('/')}/varz"
    try:
        with urlopen(url, timeout=_TIMEOUT) as answer:
            varz = msgspec.json.decode(answer.read(), type=Varz)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        return f"{url}: {error}"
    if varz.server_id != server.get("server_id"):
        return f"{url} is another server's"
    return varz
