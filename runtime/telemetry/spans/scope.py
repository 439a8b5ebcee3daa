"""Services and instrumentation scopes, by which exported telemetry is grouped."""

from opentelemetry.util.types import AttributeValue

from runtime.telemetry.spans.recorder import Recorder


class Service:
    """A source of telemetry: a name, the resource attributes, and the recorder of its spans."""

    def __init__(self, name: str, resource: dict[str, AttributeValue], recorder: Recorder) -> None:
        self.name = name
        self.resource = resource
        self.recorder = recorder
        self._scopes: dict[tuple[str, str], Scope] = {}

    def scope(self, name: str, version: str) -> "Scope":
        """Return the scope of that name and version; the same object on each call."""
        key = name, version
        found = self._scopes.get(key)
        if found is None:
            found = self._scopes[key] = Scope(self, name, version)
        return found


class Scope:
    """An instrumentation scope of a service: the library or module that creates the spans."""

    __slots__ = ("encoded", "name", "service", "version")

    def __init__(self, service: Service, name: str, version: str) -> None:
        self.service = service
        self.name = name
        self.version = version
        self.encoded: tuple[bytes, bytes] | None = None
        """The encoded resource and scope. Only the OTLP encoder reads and sets it."""
