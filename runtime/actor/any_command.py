"""A command that is sent by names, without its class."""

from functools import lru_cache
from typing import Any

from runtime.actor.message import Command, Contract
from runtime.wire.codec import Codec
from runtime.wire.subjects import snake_case

_BODY: Codec[Any] = Codec(Any)


class AnyCommand(Command[Any], frozen=True):
    """A command of an actor whose message classes are not at hand. It is sent in the place of a command of its class.

    `Actor.command`, `Actor.tell`, `Bus.command` and `Bus.tell` take it. The receiver checks it as it does any command. The reply is decoded
    JSON.

    Example:
        self.tell(AnyCommand("mailer", "SendMail", {"to": address}, key=address), id=mail_id)
    """

    actor: str
    """The name of the actor that handles it."""
    name: str
    """The name of its class, ``SendMail``."""
    body: Any
    """The fields of the command, as values of JSON."""
    key: str | None = None
    """The key of the command, which `tell` needs; None for a command without one."""

    @property
    def __contract__(self) -> Contract:  # type: ignore[override]
        """The contract: each command has that of its names."""
        return _contract(self.actor, self.name, self.key is not None)


@lru_cache(maxsize=4096)
def _contract(actor: str, name: str, keyed: bool) -> Contract:
    type_name = f"{actor}.{name}"
    key, read = ("key", _key_of) if keyed else (None, None)
    return Contract("command", actor, snake_case(name), AnyCommand, Any, key, read, (), type_name, _encode)


def _encode(message: Any) -> bytes:
    return _BODY.encode(message.body, message.name)


def _key_of(message: Any) -> str:
    return message.key
