"""Stored states: decoded, and upgraded if an older version of the actor wrote them.

An unreadable state fails the messages of its key only. The other keys of the actor are not affected.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from runtime.faults import error_text
from runtime.storage.record import Record, Unreadable, is_null, unreadable
from runtime.wire.codec import UNDECODABLE, UNENCODABLE, encode, name_of
from runtime.wire.tokens import token_key
from runtime.wire.value_faults import find_non_finite, find_unencodable

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""Returns the JSON object of the next state version, given that of one version. It may contain any value that has a JSON form."""


class States:
    """Reads the states of one actor type.

    Args:
        actor: The name of the actor, for error texts.
        state_type: The type of a state; None if the actor has none.
        version: The newest version of the state, which `state_type` decodes.
        upgrades: The upgrade from each older version to the next.
    """

    def __init__(self, actor: str, state_type: Any, version: int, upgrades: Mapping[int, Upgrade]) -> None:
        self.version = version
        self._actor = actor
        self._type = state_type
        self._upgrades = upgrades
        self._decode = msgspec.json.Decoder(state_type).decode if state_type is not None else None

    def decode(self, record: Record, subject: str) -> Any:
        """Return the state in a record, or None if it has none.

        Args:
            record: The record.
            subject: The subject of the record, for error texts.

        Raises:
            Unreadable: A newer version of the actor wrote the state; or the state is not valid JSON of its type, or no
                upgrade leads to the newest version.
        """
        return self.read(record.state_version, record.state, subject)

    def read(self, version: int, state: msgspec.Raw, subject: str) -> Any:
        """Return a state, given its JSON and its version; see `decode`."""
        if self._decode is None or is_null(state):
            return None
        if version > self.version:
            key = token_key(subject.rpartition(".")[2])
            raise Unreadable(
                subject,
                f"{self._actor}: the state of key {key!r} was written by a newer version of this service "
                f"(state version {version}; this process knows {self.version})",
            )
        try:
            if version == self.version:
                return self._decode(state)
            # The same decoder: `msgspec.convert` refuses a dict whose keys are integers, and `Raw`.
            return self._decode(self._upgraded(version, state, subject))
        except UNDECODABLE as error:
            raise unreadable(subject, f"the stored state does not fit {name_of(self._type)}: {error}") from None

    def _upgraded(self, first: int, state: msgspec.Raw, subject: str) -> bytes:
        """Return the JSON of a state of the version `first` after all upgrades."""
        value = msgspec.json.decode(state)
        for version in range(first, self.version):
            upgrade = self._upgrades.get(version)
            if upgrade is None:
                raise unreadable(subject, f"no upgrade leads from state version {version} to {version + 1}")
            try:
                value = upgrade(value)
            except BaseException as error:  # the application's own code: it must fail this key only, not the actor
                reason = f"{type(error).__name__}: {error_text(error)}"
                raise unreadable(subject, f"the upgrade from state version {version} failed: {reason}") from error
        try:
            body = encode(value)
        except UNENCODABLE as error:
            raise unreadable(
                subject, f"the upgraded state cannot be encoded: {error} - at `{find_unencodable(value)}`"
            ) from None
        if (fault := find_non_finite(value)) is not None:
            raise unreadable(subject, f"the upgraded state cannot be stored: {fault}")
        return body
