"""The mailer: sends mail by a service outside, which speaks HTTP."""

import asyncio
import json
import os
import urllib.request
from urllib.error import HTTPError

from runtime import Actor, Options, Retry, RetryPolicy, react

from .messages import MailSent, OrderPaid, UserRegistered


class MailRefused(Exception):
    """The service refuses the mail for good."""


class Mailer(Actor):
    """Sends mail."""

    name = "mailer"
    # `asyncio.to_thread` has five threads at least. A sixth handler might spend its time waiting for one.
    options = Options(
        concurrency=5, limit=30, retry=RetryPolicy(attempts=10, first=1, longest=300, permanent=("MailRefused",))
    )

    async def on_start(self) -> None:
        self.url = os.environ["MAIL_URL"]

    # An attempt that raises is repeated after a pause, which doubles each time. After the last one the event is a dead letter.
    @react
    async def on_user_registered(self, event: UserRegistered) -> None:
        await self.send(event.user_id, event.email, "Welcome")

    @react
    async def on_order_paid(self, event: OrderPaid) -> None:
        await self.send(event.user_id, event.email, f"You have paid {event.total}")

    async def send(self, user_id: str, email: str, subject: str) -> None:
        await asyncio.to_thread(self.post, {"to": email, "subject": subject})
        self.emit(MailSent(self.message_id, user_id, subject, self.now))

    def post(self, mail: dict[str, str]) -> None:
        """Hand a mail to the service, under an id that is the same in each attempt: the service sends it once."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": self.message_id}
        request = urllib.request.Request(self.url, json.dumps(mail).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                if response.url != self.url:  # urllib has followed a redirect, by a GET without the mail
                    raise MailRefused(f"{self.url} is now {response.url}")
        except HTTPError as error:
            error.close()
            if error.code not in (408, 429) and error.code < 500:
                raise MailRefused(f"{error.code} {error.reason}") from error
            # In seconds. If the header is missing or has a date, the pause is that of the policy.
            after = error.headers.get("Retry-After", "")
            raise Retry(f"{error.code} {error.reason}", after=float(after) if after.isdecimal() else None) from error
