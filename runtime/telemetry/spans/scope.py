"""Services and instrumentation scopes, by which exported telemetry is grouped."""

from opentelemetry.util.types import AttributeValue

from runtime.telemetry.spans.recorder import Recorder


class Service:
    """A source of telemetry: a name, the resource attributes, and the recorder of its spans."""

    def __init__(self, name: str, resource: dict[str, AttributeValue], recorder: Recorder) -> None:
        self.name = name
        self.resource = resource
        self.recorder = recorder
        self._scopes: dict[tuple[str, str, str], Scope] = {}

    def scope(self, name: str, version: str, schema_url: str = "") -> "Scope":
        """Return the scope of that name, version and schema; the same object on each call."""
        key = name, version, schema_url
        found = self._scopes.get(key)
        if found is None:
            found = self._scopes[key] = Scope(self, name, version, schema_url)
        return found


class Scope:
    """An instrumentation scope of a service: the library or module that creates the spans."""

    __slots__ = ("encoded", "name", "schema_url", "service", "version")

    def __init__(self, service: Service, name: str, version: str, schema_url: str) -> None:
        self.service = service
        self.name = name
        self.version = version
        self.schema_url = schema_url
        """The version of the conventions that its spans follow; "" if it is unknown."""
        self.encoded: tuple[bytes, bytes, bytes] | None = None
        """The encoded resource, scope and schema. Only the OTLP encoder reads and sets it."""
