"""Sends the requests of deliveries to HTTP targets, and returns their outcomes.

The import of this module needs aiohttp, so a process without HTTP targets does not import it.
"""

import asyncio
import base64
import os
import socket
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from runtime.errors import ConfigurationError

try:
    import aiohttp
except ImportError:
    raise ConfigurationError("HTTP targets need aiohttp: run `pip install actorloom[router]`") from None

from yarl import URL

from runtime.router.http_outcomes import excerpt, outcome_of
from runtime.router.http_request import HttpRequest
from runtime.router.http_settings import Auth, Basic, Bearer, ClientCredentials, HeaderKey, HttpSettings
from runtime.router.http_tls import TlsContexts, ssl_reason
from runtime.router.http_tokens import TokenRefused, Tokens
from runtime.router.outcomes import Again, Outcome, Permanent
from runtime.router.secrets import Secrets

_MOST_READ = 4096
"""Bytes of an answer that are read at most. A longer answer ends its connection."""

_READ_TIME = 1.0
"""Seconds for reading these bytes, after the status has arrived."""


class _Credentials(NamedTuple):
    headers: dict[str, str]
    secrets: tuple[str, ...]
    """The texts that no reason may contain. The first one is the token, if there is one."""


class HttpSender:
    """Sends requests to HTTP targets over shared connections. Use it in ``async with``, which closes them.

    It uses no proxy, keeps no cookies, follows no redirects, and reads the beginning of an answer only.

    Args:
        secrets: The secret files.
        now: Returns the time in Unix seconds, for a Retry-After that is a date.
        clock: Returns the time in seconds, for the lifetime of tokens.
    """

    def __init__(
        self,
        secrets: Secrets,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._secrets = secrets
        self._now = now
        self._clock = clock
        self._contexts = TlsContexts(secrets)

    async def __aenter__(self) -> "HttpSender":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the gate of each target has the limit
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # `send` has the deadline
            headers={"User-Agent": "actorloom", "Accept-Encoding": "identity"},
            trust_env=False,
        )
        self._tokens = Tokens(self._session, self._clock)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def send(self, settings: HttpSettings, request: HttpRequest, timeout: float) -> Outcome:
        """Send a request once; a second time if the first answer is 401 and there is a token to renew.

        Failures of the target, of the network and of the secret files are outcomes. No outcome contains a secret.

        Args:
            settings: The settings of the target.
            request: The request, the same one in each attempt.
            timeout: Seconds for the attempt, from the connection to the end of the answer.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        refused = ""
        try:
            context = self._contexts.get(settings.tls)
            while True:
                async with asyncio.timeout_at(deadline):
                    credentials = await self._credentials(settings.auth, context, refused)
                    response = await self._request(request, credentials, context)
                outcome = outcome_of(
                    response.status,
                    excerpt(await _beginning(response), credentials.secrets),
                    response.headers.get("Retry-After"),
                    self._now(),
                )
                if response.status != 401 or refused or not isinstance(settings.auth, ClientCredentials):
                    return outcome
                refused = credentials.secrets[0]
        except TimeoutError:
            return Again(f"no answer within {timeout:g} s")
        except (ConfigurationError, TokenRefused) as error:  # it may be mended while the delivery waits
            return Again(str(error))
        except aiohttp.InvalidURL:
            return Permanent("the URL is not valid")
        except (aiohttp.ClientError, OSError) as error:
            return Again(_reason(error))

    async def _request(
        self, request: HttpRequest, credentials: _Credentials, context: ssl.SSLContext | bool
    ) -> aiohttp.ClientResponse:
        return await self._session.request(
            request.method,
            URL(request.url, encoded=True),
            headers={**request.headers, **credentials.headers},
            data=request.body,
            ssl=context,
            allow_redirects=False,
        )

    async def _credentials(self, auth: Auth | None, context: ssl.SSLContext | bool, refused: str) -> _Credentials:
        if auth is None:
            return _Credentials({}, ())
        secret = self._secrets.read(auth.secret)
        match auth:
            case Basic():
                pair = base64.b64encode(f"{auth.user}:{secret}".encode()).decode()
                return _Credentials({"Authorization": f"Basic {pair}"}, (secret, pair))
            case Bearer():
                return _Credentials({"Authorization": f"Bearer {secret}"}, (secret,))
            case HeaderKey():
                return _Credentials({auth.name: secret}, (secret,))
            case ClientCredentials():
                token = await self._tokens.get(auth, secret, context, refused)
                return _Credentials({"Authorization": f"Bearer {token}"}, (token, secret))


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """Return the beginning of an answer, and give its connection back; close it if there is more. A failure ends the text."""
    content = b""
    try:
        async with asyncio.timeout(_READ_TIME):
            while len(content) < _MOST_READ and (part := await response.content.read(_MOST_READ - len(content))):
                content += part
    except (aiohttp.ClientError, OSError):  # `TimeoutError` is one; the status counts, whatever becomes of the text
        response.close()
        return content
    if response.content.at_eof():
        response.release()
    else:
        response.close()
    return content


def _reason(error: Exception) -> str:
    """Return the reason of a failure without an answer. It has no text from the request or from the target."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"the certificate of {error.host}:{error.port} is not valid"
        case aiohttp.ClientConnectorError():
            return f"no connection to {error.host}:{error.port}: {_os_reason(error.os_error)}"
        case aiohttp.ServerDisconnectedError():
            return "the target closed the connection without an answer"
        case aiohttp.ClientOSError() | OSError():
            return f"the connection broke: {_os_reason(error)}"
        case _:
            return "the answer of the target is not HTTP"


def _os_reason(error: OSError) -> str:
    """Return the reason of a failure in words: the texts of asyncio have addresses as Python writes them."""
    match error:
        case ssl.SSLError():
            return ssl_reason(error)
        case socket.gaierror():
            return error.strerror or "the name is not known"
        case OSError(errno=int() as number):
            return os.strerror(number)
        case _:
            return error.strerror or "it has broken off"
