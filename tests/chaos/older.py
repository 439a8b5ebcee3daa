"""A process of the version before partitions, as far as it meets a newer one: by the streams that it wants at its start."""

from collections.abc import Callable

import msgspec

from runtime.nats.jetstream.configs import StreamConfig
from runtime.storage import streams
from runtime.wire.subjects import Names

Config = Callable[[Names, int], StreamConfig]


def install() -> None:
    """Let this process want streams that store messages without buckets, and keep the keys as one whole."""
    streams.events_config = _without_buckets(streams.events_config, "event")
    streams.dead_config = _without_buckets(streams.dead_config, "dead", "redrive")


def _without_buckets(config: Config, *kinds: str) -> Config:
    def older(names: Names, replicas: int = 1) -> StreamConfig:
        subjects = tuple(f"{names.own}.{kind}.>" for kind in kinds)
        return msgspec.structs.replace(
            config(names, replicas), subjects=subjects, subject_transform=msgspec.UNSET, max_consumers=msgspec.UNSET
        )

    return older
