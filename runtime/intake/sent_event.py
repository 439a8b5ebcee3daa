"""An event that is handed on, as its sender knows it: where it is, and the deaths at which it ran."""

import msgspec

from runtime.intake.blame import first_used
from runtime.intake.event_work import EventWork
from runtime.intake.watch import Watch
from runtime.wire.hand_on import HandedOn, Place, encode

_ROOM = 4096
"""Bytes for all but headers and body. A message without that much room is sent without its body."""


class SentEvent(msgspec.Struct, eq=False):
    """One event in hand that another owner is to handle."""

    work: EventWork
    place: Place
    watch: Watch | None
    """It watches the consumer of the event since the death of a former owner."""
    watched: bool
    used: int
    """The attempts that deaths have used of a suspect; -1 for another event."""
    deaths: list[tuple[str, int]] = []
    """The owners that have vanished while it ran, each with the number of its ownership."""
    owner: tuple[str, int] = ("", 0)
    """The owner that has it, or had it last."""
    known: bool = False
    """Whether a receiver has got it, as far as anybody knows."""
    running: bool = False
    """Whether it was last known to run, of a watched one."""
    refused: int = 0
    """Answers in a row by which it was not accepted."""

    @property
    def all_used(self) -> int:
        """The attempts that it has used, those at the deaths of its receivers included; -1 if it is no suspect."""
        if not self.deaths or self.used >= 0:
            return self.used + len(self.deaths)
        return first_used(self.work.attempts, alone=False) + len(self.deaths) - 1

    def body(self, max_payload: int) -> bytes:
        """Return the message that hands it on, without its body if that does not fit."""
        work, delivery = self.work, self.work.completion.delivery
        message = HandedOn(
            place=self.place,
            id=work.id,
            key=work.key,
            fingerprint=work.fingerprint,
            durable=work.reactions.durable,
            subject=delivery.subject,
            ack=delivery.reply,
            delivered=delivery.delivered,
            id_from_delivery=work.id_from_delivery,
            timer=work.timer,
            headers=delivery.headers,
            payload=delivery.payload,
            watched=self.watched,
            used=self.all_used,
        )
        size = len(delivery.payload) + len(delivery.headers or b"") + len(work.key) + len(delivery.subject)
        if size > max_payload - _ROOM:
            message = msgspec.structs.replace(message, payload=None, headers=None)
        return encode(message)

    def question(self) -> bytes:
        """Return the message that asks for it."""
        return encode(HandedOn(place=self.place))
