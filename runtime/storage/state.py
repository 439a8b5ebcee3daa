"""Stored states: decoded, and upgraded where an older version of the actor wrote them.

A key whose state cannot be had refuses what needs it, and says why; the other keys of the actor go on.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from runtime.errors import CodecError, NotDelivered
from runtime.storage.record import Record, is_null
from runtime.wire.subjects import token_key

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the JSON of one state version into that of the next."""


class States:
    """Reads the states of one actor type, whose newest version is `version`; `upgrades` lead there, one step each."""

    def __init__(self, actor: str, state_type: Any, version: int, upgrades: Mapping[int, Upgrade]) -> None:
        self._actor = actor
        self._type = state_type
        self._version = version
        self._upgrades = upgrades
        self._decode = msgspec.json.Decoder(state_type).decode if state_type is not None else None

    def decode(self, record: Record, subject: str) -> Any:
        """Return the state in `record`, which was stored on `subject`; None where there is none.

        Raises `NotDelivered` where a newer version wrote it (ask again when that is deployed), and `CodecError` for a
        state that is not what it should be, or that no upgrade leads from.
        """
        if self._decode is None or is_null(record.state):
            return None
        if record.version > self._version:
            key = token_key(subject.rpartition(".")[2])
            raise NotDelivered(
                f"{self._actor}: the state of key {key!r} was written by a newer version of this service "
                f"(state version {record.version}; this process knows {self._version})"
            )
        try:
            if record.version == self._version:
                return self._decode(record.state)
            return msgspec.convert(self._upgraded(record, subject), self._type)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CodecError(f"{subject}: stored state does not fit {self._type.__name__}: {error}") from None

    def _upgraded(self, record: Record, subject: str) -> Any:
        value = msgspec.json.decode(record.state)
        for version in range(record.version, self._version):
            upgrade = self._upgrades.get(version)
            if upgrade is None:
                raise CodecError(f"{subject}: no upgrade leads from state version {version} to {version + 1}")
            try:
                value = upgrade(value)
            except Exception as error:  # the application's own code: it costs this key, not the actor
                raise CodecError(f"{subject}: the upgrade from state version {version} failed: {error!r}") from error
        return value
