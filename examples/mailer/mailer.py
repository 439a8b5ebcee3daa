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
    options = Options(limit=30, retry=RetryPolicy(attempts=10, first=1, longest=300, permanent=("MailRefused",)))

    async def on_start(self) -> None:
        self.url = os.environ["MAIL_URL"]

    # An attempt that raises is repeated after a pause, which doubles each time. After the last one the event is a dead letter.
    @react(name="send")
    async def on_event(self, event: UserRegistered | OrderPaid) -> None:
        match event:
            case UserRegistered():
                subject = "Welcome"
            case OrderPaid():
                subject = f"You have paid {event.total}"
        await asyncio.to_thread(self.post, {"to": event.email, "subject": subject})
        self.emit(MailSent(self.message_id, event.user_id, subject, self.now))

    def post(self, mail: dict[str, str]) -> None:
        """Hand a mail to the service, under an id that is the same in each attempt: the service sends it once."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": self.message_id}
        request = urllib.request.Request(self.url, json.dumps(mail).encode(), headers)
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except HTTPError as error:
            error.close()
            if error.code == 429:
                raise Retry("the mail service is busy", after=float(error.headers["Retry-After"])) from error
            if error.code < 500:
                raise MailRefused(f"{error.code} {error.reason}") from error
            raise
