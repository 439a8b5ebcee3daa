"""Credentials by nkey: a credentials file, a seed file, or a JWT and its seed. They are read anew for each attempt to connect."""

import base64
import re
from pathlib import Path
from typing import Any, Final

import msgspec
import nats.errors
import nkeys

_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z ]+)-----\s+(\S+)\s+-{3,}END \1-{3,}")
_JWT, _SEED = "NATS USER JWT", "USER NKEY SEED"


class UnusableCredentials(nats.errors.Error):
    """The credentials cannot be read, or contain no seed. They may be in the middle of a replacement."""


class Credentials:
    """The credentials of one connection.

    Args:
        creds: The path of a file with a JWT and a seed, as ``nsc`` writes it.
        nkey: The path of a file with a seed only.
        user_jwt: A JWT, used if there is no file.
        user_seed: Its seed; without one, the JWT is a bearer token.
    """

    def __init__(
        self,
        creds: str | None = None,
        nkey: str | None = None,
        user_jwt: str | None = None,
        user_seed: str | None = None,
    ) -> None:
        self._creds = creds
        self._nkey = nkey
        self._given = (user_jwt, user_seed)
        self.jwt: str | None = None
        """The JWT that was read last; None with a seed only."""
        self.public_key: str | None = None
        """The public key of the seed that was read last; None with a JWT."""
        self._seed: str | None = None

    @property
    def name(self) -> str:
        """What people call these credentials: the path of the file, if there is one."""
        return self._creds or self._nkey or "user_jwt"

    @property
    def expires_at(self) -> float | None:
        """The Unix time at which the JWT that was read last expires; None if it does not."""
        return None if self.jwt is None else _expiry(self.jwt)

    def read(self) -> None:
        """Read the file anew.

        Raises:
            UnusableCredentials: The file is missing or incomplete.
        """
        self.jwt, self._seed = self._read()
        self.public_key = None
        if self.jwt is None:
            public_key: Any = self._keys().public_key  # the library annotates it wrongly
            self.public_key = public_key.decode()

    def next_expiry(self) -> float | None:
        """Return the time at which the JWT in the file expires now; None if it does not, or the file is unusable."""
        try:
            jwt, _ = self._read()
        except UnusableCredentials:
            return self.expires_at
        return None if jwt is None else _expiry(jwt)

    def sign(self, nonce: str) -> bytes:
        """Return the signature of the server's nonce in base64; empty for a bearer token."""
        if self._seed is None:
            return b""
        keys = self._keys()
        try:
            return base64.b64encode(keys.sign(nonce.encode()))
        finally:
            keys.wipe()

    def _read(self) -> tuple[str | None, str | None]:
        if self._creds is None and self._nkey is None:
            return self._given
        path = self._creds or self._nkey or ""
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UnusableCredentials(f"{path} cannot be read: {error}") from None
        blocks = {found[1]: found[2] for found in _BLOCK.finditer(text)}
        if self._creds is not None:
            if _JWT not in blocks or _SEED not in blocks:
                raise UnusableCredentials(f"{path} is not a credentials file: it needs a JWT and an nkey seed")
            return blocks[_JWT], blocks[_SEED]
        return None, blocks.get(_SEED) or text.strip()

    def _keys(self) -> nkeys.KeyPair:
        try:
            return nkeys.from_seed(bytearray((self._seed or "").encode()))
        except Exception as error:  # noqa: BLE001 - the library raises its own errors, and those of base32
            raise UnusableCredentials(f"{self.name} has no valid nkey seed: {type(error).__name__}") from None


def _expiry(jwt: str) -> float | None:
    """Return the expiry of a JWT (RFC 7519, ``exp``). The server checks the rest of it."""
    payload = jwt.partition(".")[2].partition(".")[0]
    try:
        content = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        expires_at = msgspec.json.decode(content, type=_Claims).exp
    except (ValueError, msgspec.DecodeError):
        return None
    return expires_at or None


class _Claims(msgspec.Struct):
    exp: float = 0.0
