"""A mail gateway: it takes mails by HTTP, and sends each one once. It knows neither actors nor NATS.

    python -m examples.loyalty.gateway --port 8025
    curl -H 'Idempotency-Key: 1' -d '{"to": "ann@example.org", "subject": "Hello", "text": "How are you?"}' http://127.0.0.1:8025/mails

To send a mail is to print it. The keys are in memory, so a restart forgets them; a gateway of a company has a database.
"""

import argparse
import logging

import msgspec
from aiohttp import web

logger = logging.getLogger("gateway")


class Mail(msgspec.Struct, frozen=True):
    to: str
    subject: str
    text: str


class Gateway:
    """The mails that were sent, by their idempotency keys."""

    def __init__(self) -> None:
        self.sent: dict[str, Mail] = {}

    def application(self) -> web.Application:
        """Return the HTTP application: ``POST /mails`` sends a mail, ``GET /mails`` lists the mails."""
        application = web.Application()
        application.add_routes([web.post("/mails", self._send), web.get("/mails", self._list)])
        return application

    async def _send(self, request: web.Request) -> web.Response:
        key = request.headers.get("Idempotency-Key")
        if not key:
            return web.json_response({"error": "the header Idempotency-Key is missing"}, status=400)
        try:
            mail = msgspec.json.decode(await request.read(), type=Mail)
        except msgspec.DecodeError as error:
            return web.json_response({"error": str(error)}, status=422)
        # Nothing is awaited between the look at the key and the mail, so two requests with one key send one mail.
        sent = self.sent.get(key)
        if sent is None:
            self.sent[key] = mail
            logger.info("to %s: %s: %s", mail.to, mail.subject, mail.text)
            return web.json_response({"sent": True}, status=202)
        if sent != mail:
            return web.json_response({"error": f"another mail was sent with the key {key}"}, status=422)
        return web.json_response({"sent": False})

    async def _list(self, request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(list(self.sent.values())), content_type="application/json")


def main() -> None:
    """Serve a gateway until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A mail gateway.")
    parser.add_argument("--port", type=int, default=8025)
    port: int = parser.parse_args().port
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    web.run_app(Gateway().application(), host="127.0.0.1", port=port, access_log=None)


if __name__ == "__main__":
    main()
