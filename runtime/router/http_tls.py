"""The TLS contexts of HTTP targets, made from secret files and made again after a file has changed."""

import ssl

from runtime.errors import ConfigurationError
from runtime.router.http_settings import Tls
from runtime.router.secrets import Secrets

_State = tuple[int, int, int]
"""The inode, the time and the size of a file."""


class TlsContexts:
    """The TLS contexts of a process, one per set of files. Connections are shared by the requests of one context.

    Args:
        secrets: The secret files.
    """

    __slots__ = ("_contexts", "_secrets")

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._contexts: dict[Tls, tuple[list[_State], ssl.SSLContext]] = {}

    def get(self, tls: Tls) -> ssl.SSLContext | bool:
        """Return the context for some files; True if there are none, so that the settings of the system hold.

        Raises:
            ConfigurationError: A file is missing, or is not what its field needs.
        """
        names = [name for name in (tls.ca, tls.certificate, tls.key) if name is not None]
        if not names:
            return True
        try:
            stats = [self._secrets.path(name).stat() for name in names]
            states = [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats]
            known = self._contexts.get(tls)
            if known is None or known[0] != states:
                known = self._contexts[tls] = states, self._make(tls)
        except OSError as error:  # `ssl.SSLError` is one
            reason = ssl_reason(error) if isinstance(error, ssl.SSLError) else error.strerror
            raise ConfigurationError(f"the TLS files {', '.join(names)} cannot be used: {reason}") from None
        return known[1]

    def _make(self, tls: Tls) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=None if tls.ca is None else self._secrets.path(tls.ca))
        if tls.certificate is not None:
            key = None if tls.key is None else self._secrets.path(tls.key)
            # Without this function, OpenSSL asks at the terminal for the password of an encrypted key.
            context.load_cert_chain(self._secrets.path(tls.certificate), key, password=lambda: b"")
        return context


def ssl_reason(error: ssl.SSLError) -> str:
    """Return the reason of OpenSSL in words: ``wrong version number``. Its text names a line of the source of Python as well."""
    return error.reason.replace("_", " ").lower() if error.reason else "there is no certificate or no key in PEM"
