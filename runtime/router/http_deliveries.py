"""The sender of an HTTP target: it makes the request of a delivery, and sends it. It needs ``actorloom[router]``."""

from typing import Any

import msgspec

from runtime.errors import ConfigurationError
from runtime.router.cloud_event import CloudEvent
from runtime.router.http_request import RequestForm
from runtime.router.http_sender import HttpSender
from runtime.router.inputs import InputError
from runtime.router.outcomes import Outcome
from runtime.router.parcel import Parcel
from runtime.router.secrets import Secrets
from runtime.router.target import HttpKind, Target
from runtime.telemetry import inject


class HttpDeliveries:
    """Sends the deliveries of one HTTP target.

    Args:
        settings: The settings.
        target: The target.
    """

    def __init__(self, settings: HttpKind, target: Target) -> None:
        self._settings = settings
        self._timeout = target.timeout
        try:
            self._form = RequestForm(settings, where=f"target {target.name}: to")
        except InputError as error:
            raise ConfigurationError(str(error)) from None
        self._sender = HttpSender(Secrets.from_environment())

    async def start(self) -> None:
        """Open the connections."""
        await self._sender.__aenter__()

    async def stop(self) -> None:
        """Close the connections."""
        await self._sender.__aexit__(None, None, None)

    async def send(self, actor: Any, parcel: Parcel) -> Outcome:
        """Send a delivery once. Raises `InputError` if a path of the target has no value in the event."""
        attributes = {
            name: value for name, value in parcel.occurrence.attributes.items() if isinstance(value, str | int | bool)
        }
        event = CloudEvent(attributes, msgspec.json.encode(parcel.body))
        request = self._form.make(event, parcel.occurrence, delivery_id=parcel.id, trace=inject())
        return await self._sender.send(self._settings, request, self._timeout)
