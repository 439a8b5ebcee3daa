"""Tokens of OAuth 2 for HTTP targets, by the grant of client credentials (RFC 6749, section 4.4)."""

import asyncio
import base64
import time
from collections.abc import Callable
from ssl import SSLContext
from urllib.parse import quote_plus, urlencode

import aiohttp
import msgspec

from runtime.router.http_settings import ClientCredentials

LARGEST = 65_536
"""Bytes of an answer of a token endpoint at most."""

LIFETIME = 3600.0
"""Seconds that a token is used if the answer has no ``expires_in``, which it should have."""


class TokenRefused(Exception):
    """The token endpoint has not given a token. The text has its status, and neither its answer nor a secret."""


class _Answer(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float | str | None = None


class _Entry:
    """The token of one client at one endpoint."""

    __slots__ = ("lock", "renew_at", "secret", "token")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.token = ""
        self.secret = ""
        """The secret that the token was asked for with."""
        self.renew_at = 0.0


class Tokens:
    """The tokens of a process. Concurrent callers share one request for a token.

    Args:
        session: Sends the requests.
        clock: Returns the time in seconds.
    """

    __slots__ = ("_clock", "_entries", "_session")

    def __init__(self, session: aiohttp.ClientSession, clock: Callable[[], float] = time.monotonic) -> None:
        self._session = session
        self._clock = clock
        self._entries: dict[bytes, _Entry] = {}

    async def get(self, client: ClientCredentials, secret: str, ssl: SSLContext | bool, refused: str = "") -> str:
        """Return a token, a new one if the last one is about to expire, or if the secret is another one.

        Args:
            client: The client and the endpoint.
            secret: The secret of the client.
            ssl: The settings of TLS for the endpoint; True for those of the system.
            refused: A token that a target has refused: it is not returned again.

        Raises:
            TokenRefused: The endpoint has answered, and not with a token.
            aiohttp.ClientError: The endpoint has not answered.
            TimeoutError: The same, for too long.
        """
        entry = self._entries.setdefault(msgspec.json.encode(client, order="deterministic"), _Entry())
        async with entry.lock:
            usable = entry.token != refused and entry.secret == secret and self._clock() < entry.renew_at
            if not entry.token or not usable:
                entry.token, lifetime = await self._request(client, secret, ssl)
                entry.secret = secret
                entry.renew_at = self._clock() + lifetime - min(60.0, lifetime / 10)
            return entry.token

    async def _request(self, client: ClientCredentials, secret: str, ssl: SSLContext | bool) -> tuple[str, float]:
        """Return a new token, and the seconds for which it is valid."""
        form = {**client.parameters, "grant_type": "client_credentials"}
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if client.secret_in_body:
            form |= {"client_id": client.client_id, "client_secret": secret}
        else:
            pair = f"{quote_plus(client.client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        async with self._session.post(
            client.token_url, data=urlencode(form).encode(), headers=headers, ssl=ssl, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise TokenRefused(f"the token endpoint answered {response.status}")
            content = await _read(response)
        try:
            answer = msgspec.json.decode(content, type=_Answer)
            lifetime = LIFETIME if answer.expires_in is None else float(answer.expires_in)
        except (msgspec.DecodeError, ValueError):
            raise TokenRefused("the token endpoint answered 200 without a token in JSON") from None
        token = answer.access_token
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise TokenRefused("the token endpoint answered with a token that no header can have")
        return token, max(lifetime, 0.0)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for part in response.content.iter_any():
        content += part
        if len(content) > LARGEST:
            raise TokenRefused(f"the token endpoint answered with more than {LARGEST} bytes")
    return bytes(content)
