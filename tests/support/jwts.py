"""A NATS operator with an account, for tests of JWTs: nkeys, signed claims, and the configuration of a server."""

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import nkeys

_UNLIMITED = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
_STORAGE = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


class Operator:
    """An operator with a system account and one account with JetStream, whose users it signs."""

    def __init__(self) -> None:
        self._operator = _Key(nkeys.PREFIX_BYTE_OPERATOR)
        self._system, self._account = _Key(nkeys.PREFIX_BYTE_ACCOUNT), _Key(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def config(self) -> str:
        """The lines of a server's configuration."""
        operator = self._operator
        operator_jwt = operator.sign(operator, {"type": "operator", "system_account": self._system.public})
        accounts = {
            key.public: operator.sign(
                key, {"type": "account", "limits": {**_UNLIMITED, "wildcards": True, **storage}, "name": name}
            )
            for key, name, storage in ((self._system, "SYS", {}), (self._account, "APP", _STORAGE))
        }
        preload = ", ".join(f"{name}: {jwt}" for name, jwt in accounts.items())
        return f"operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {preload} }}\n"

    def user(self, path: Path, lifetime: float | None = None) -> str:
        """Write a credentials file at once, as `nsc` and secret stores do; return its path."""
        user = _Key(nkeys.PREFIX_BYTE_USER)
        claims: dict[str, Any] = {"type": "user", "subs": -1, "data": -1, "payload": -1}
        expiry = {} if lifetime is None else {"exp": int(time.time() + lifetime)}
        jwt = self._account.sign(user, claims, **expiry)
        written = path.with_suffix(".new")
        written.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )
        os.replace(written, path)
        return str(path)


class _Key:
    def __init__(self, prefix: int) -> None:
        seed = nkeys.encode_seed(os.urandom(32), prefix)
        self.seed = bytes(seed).decode()
        self._pair: Any = nkeys.from_seed(bytearray(seed))
        self.public: str = self._pair.public_key.decode()

    def sign(self, subject: "_Key", claims: dict[str, Any], **more: Any) -> str:
        """Return a JWT for `subject`, signed by this key."""
        name = claims.pop("name", "test")
        body = {
            "jti": base64.b32encode(os.urandom(20)).decode(), "iat": int(time.time()), "iss": self.public, "name": name,
            "sub": subject.public, "nats": {"version": 2, **claims}, **more,
        }  # fmt: skip
        parts = [_encoded(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, body)]
        signature = self._pair.sign(".".join(parts).encode())
        return ".".join((*parts, _encoded(signature)))


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
