"""The settings of an HTTP target: where to, in which form, with which secrets.

The settings contain no secret: `auth` and `tls` name files in the directory of the secrets (see `secrets`).
"""

import re
from typing import Final, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec

from runtime.router import secrets
from runtime.router.inputs import InputError

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
"""Match the name of a header: a token of RFC 9110."""

_HOST = re.compile(r"(?!.{254})[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?").fullmatch
"""Match the name of a host in lower case, or an IPv4 address. One of IPv6 has colons."""

OWN_HEADERS: Final = frozenset(
    "host connection content-length transfer-encoding upgrade expect accept-encoding "
    "traceparent tracestate authorization proxy-authorization".split()
)
"""Headers in lower case that the sender sets itself, or that belong into a secret file."""


class Basic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="basic"):
    """The scheme Basic of RFC 7617."""

    user: str
    """The name of the user."""
    secret: str
    """The name of the file with the password."""


class Bearer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="bearer"):
    """A fixed token: ``Authorization: Bearer …`` (RFC 6750)."""

    secret: str
    """The name of the file with the token."""


class HeaderKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="header"):
    """A key in a header of its own, such as ``X-Api-Key``."""

    name: str
    """The name of the header."""
    secret: str
    """The name of the file with its value."""


class ClientCredentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="oauth2"):
    """The grant of client credentials of OAuth 2 (RFC 6749, section 4.4).

    The token is renewed after an answer with 401, and shortly before it expires.
    """

    token_url: str
    """The URL of the token endpoint."""
    client_id: str
    """The id of the client."""
    secret: str
    """The name of the file with the secret of the client."""
    parameters: dict[str, str] = {}
    """More parameters of the token request, such as ``scope`` and ``audience``."""
    secret_in_body: bool = False
    """Whether id and secret are sent as parameters, for servers that do not accept them in the scheme Basic."""


Auth = Basic | Bearer | HeaderKey | ClientCredentials
"""How the sender authenticates itself."""


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The files of TLS, in PEM."""

    ca: str | None = None
    """The file of the authorities that sign the certificate of the server, in place of those of the system."""
    certificate: str | None = None
    """The file of the client's certificate."""
    key: str | None = None
    """The file of the key for that certificate; by default it is in the same file."""


class HttpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The settings of an HTTP target.

    Raises:
        InputError: A field is invalid. The text begins with its name. msgspec makes a `ValidationError` of it.
    """

    url: str
    """An http or https URL. Paths such as ``{$.orderId}`` may stand in its path and query; each value is one part of them."""
    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"] = "POST"
    """The method. A GET has no body."""
    headers: dict[str, str] = {}
    """Headers by name. Paths such as ``{$.orderId}`` may stand in the values."""
    body: Literal["cloudevent", "binary", "input"] = "cloudevent"
    """The form of the body.

    ``cloudevent``: the event in the structured mode of CloudEvents. ``binary``: its data, with the attributes in headers
    ``ce-…``. ``input``: the input that the rule makes, as JSON.
    """
    auth: Auth | None = None
    """How the sender authenticates itself."""
    tls: Tls = Tls()
    """The files of TLS."""
    idempotency_header: str = "Idempotency-Key"
    """The header with the id of the delivery, which is the same in each attempt."""

    def __post_init__(self) -> None:
        _check_url(self.url, "url")
        _check_header(self.idempotency_header, "idempotency_header")
        seen = {self.idempotency_header.lower()}
        for name, value in self.headers.items():
            _check_header(name, f"headers.{name}")
            if name.lower() in seen or name.lower().startswith("ce-"):
                raise InputError(f"headers.{name}", "the header is there already")
            if not value.isprintable():
                raise InputError(f"headers.{name}", "the value is not one line of printable text")
            seen.add(name.lower())
        _check_auth(self.auth, seen)
        for field in ("ca", "certificate", "key"):
            if (file := getattr(self.tls, field)) is not None:
                _check_secret(file, f"tls.{field}")
        if self.tls.key is not None and self.tls.certificate is None:
            raise InputError("tls.certificate", "a key needs a certificate")


def split_url(url: str, field: str) -> SplitResult:
    """Return the parts of a URL. Raises `InputError` if it is none; the text names the field, and not the URL."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise InputError(field, "it is not a URL") from None
    return parts


def _check_url(url: str, field: str) -> None:
    parts = split_url(url, field)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(field, "write a URL that begins with http:// or https:// and has a host")
    if not url.isprintable() or " " in url:
        raise InputError(field, "a URL has no spaces, line breaks or control characters: write them as %20")
    if parts.username is not None or parts.password is not None:
        raise InputError(field, "write the user and the password into auth, not into the URL")
    if "#" in url:
        raise InputError(field, "a URL of a request has no fragment (#)")
    if "{" in parts.netloc:
        raise InputError(field, "a path can stand in the path and the query of the URL, not in its host")
    if ":" not in parts.hostname and not _HOST(parts.hostname):
        raise InputError(
            field, "its host is not letters, digits, - and _ with single dots between (write xn--… for other letters)"
        )


def _check_header(name: str, field: str) -> None:
    if not _HEADER(name):
        raise InputError(field, f"{name[:80]!r} is not the name of a header")
    if name.lower() in OWN_HEADERS:
        raise InputError(field, f"{name} is not a header to set here (write a password or a token into auth)")


def _check_auth(auth: Auth | None, headers: set[str]) -> None:
    if auth is None:
        return
    _check_secret(auth.secret, "auth.secret")
    match auth:
        case Basic():
            if not auth.user.isprintable() or ":" in auth.user:
                raise InputError("auth.user", "a name is printable text without a colon")
        case HeaderKey():
            if not _HEADER(auth.name) or auth.name.lower() in OWN_HEADERS - {"authorization"} | headers:
                raise InputError("auth.name", f"{auth.name[:80]!r} is not the name of a header, or is there already")
        case ClientCredentials():
            _check_url(auth.token_url, "auth.token_url")
            if "{$" in auth.token_url:
                raise InputError("auth.token_url", "the URL of the tokens is the same for each event")
        case Bearer():
            pass


def _check_secret(name: str, field: str) -> None:
    if not secrets.is_name(name):
        raise InputError(field, f"{name[:80]!r} is not the name of a file in {secrets.VARIABLE}")
