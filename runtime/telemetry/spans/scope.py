"""A service and its instrumentation scopes: what telemetry is grouped by."""

from opentelemetry.util.types import AttributeValue

from runtime.telemetry.spans.recorder import Recorder


class Service:
    """Who speaks: the resource that its telemetry carries, and where its spans go."""

    def __init__(self, name: str, resource: dict[str, AttributeValue], recorder: Recorder) -> None:
        self.name = name
        self.resource = resource
        self.recorder = recorder
        self._scopes: dict[tuple[str, str], Scope] = {}

    def scope(self, name: str, version: str) -> "Scope":
        """The scope of that name and version, the same object each time."""
        key = name, version
        found = self._scopes.get(key)
        if found is None:
            found = self._scopes[key] = Scope(self, name, version)
        return found


class Scope:
    """The code that measures, within a service. `encoded` belongs to `otlp.py`."""

    __slots__ = ("encoded", "name", "service", "version")

    def __init__(self, service: Service, name: str, version: str) -> None:
        self.service = service
        self.name = name
        self.version = version
        self.encoded: tuple[bytes, bytes] | None = None
