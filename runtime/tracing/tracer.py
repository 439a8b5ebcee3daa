"""The tracing of a process, and of each service in it: from `OTEL_*` variables to templates."""

import os
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from runtime.tracing import conventions as names
from runtime.tracing.memory import SpanRecord, record_of
from runtime.tracing.provider import install
from runtime.tracing.recorder import Recorder
from runtime.tracing.sampling import Sampler, Sampling
from runtime.tracing.scope import Service
from runtime.tracing.template import Hop, Template

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

DEFAULT_SERVICE = "actorloom"


class ServiceTracer(Service):
    """The templates of one service (one actor type); its name and version are the resource of its spans."""

    def __init__(self, tracing: "Tracing", name: str, resource: dict[str, AttributeValue]) -> None:
        super().__init__(name, resource, tracing.recorder)
        self.tracing = tracing

    def template(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, AttributeValue] | None = None,
        *,
        hop: Hop | None = None,
    ) -> Template:
        """Prepare the spans of an operation. Make it once per handler; starting spans is then cheap.

        `hop` says what a received span makes of its remote parent: "parent"; "parent+link" (the default of CONSUMER,
        since the conventions ask for a link and Jaeger's graph looks at parents only); "link": a trace of its own.
        """
        chosen = hop or (self.tracing.async_hop if kind is SpanKind.CONSUMER else "parent")
        own = self.scope(names.SCOPE, self.tracing.version)
        return Template(own, name, kind, dict(attributes or {}), chosen)


class Tracing:
    """The tracing of a process: one sampler, one queue to the exporter, one `ServiceTracer` per service name.

    Without an exporter and without `in_memory` nothing is recorded, and a trace context that comes in is passed on.
    """

    def __init__(
        self,
        *,
        sampler: Sampler | Sampling | None = None,
        in_memory: bool = False,
        resource: Mapping[str, AttributeValue] | None = None,
        async_hop: Hop = "parent+link",
        version: str = "0.1.0",
    ) -> None:
        if sampler is None:
            sampler = Sampling.from_env({})
        sampling = sampler if isinstance(sampler, Sampling) else Sampling.of(sampler)
        self.recorder = Recorder(sampling, in_memory=in_memory)
        self.async_hop: Hop = async_hop
        self.version = version
        self._resource = dict(resource or {})
        self._instance = str(uuid.uuid4())
        self._services: dict[str, ServiceTracer] = {}

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None, *, in_memory: bool = False, version: str = "0.1.0") -> Self:
        """Read the standard `OTEL_*` variables."""
        env = os.environ if env is None else env
        return cls(
            sampler=Sampling.from_env(env),
            in_memory=in_memory,
            resource=resource_from_env(env),
            version=version,
        )

    def service(self, name: str = DEFAULT_SERVICE, *, version: str = "", namespace: str = "") -> ServiceTracer:
        """The tracer of a service; the same object for the same name. The name overrides `OTEL_SERVICE_NAME`."""
        found = self._services.get(name)
        if found is None:
            resource: dict[str, AttributeValue] = {
                names.TELEMETRY_SDK_LANGUAGE: "python",
                names.TELEMETRY_SDK_NAME: "actorloom",
                names.TELEMETRY_SDK_VERSION: self.version,
                names.SERVICE_INSTANCE_ID: self._instance,
                **({names.SERVICE_VERSION: version} if version else {}),
                **({names.SERVICE_NAMESPACE: namespace} if namespace else {}),
                **self._resource,
                names.SERVICE_NAME: name,
            }
            found = self._services[name] = ServiceTracer(self, name, resource)
        return found

    def finished(self) -> list[SpanRecord]:
        """The spans that ended so far, oldest first; for `in_memory` only."""
        return [record_of(span) for span in tuple(self.recorder.memory or ())]

    def install(self) -> None:
        """Serve the OpenTelemetry API: user spans are lean ones, and nest in ours. The last one installed serves."""
        install(self)

    def flush(self, timeout: float = 5.0) -> bool:
        """Export all that has ended, within `timeout` seconds; blocks, so call it in a thread. False: not all got out."""
        return all(processor.force_flush(int(timeout * 1000)) for processor in self.recorder.processors)

    def shutdown(self, timeout: float = 5.0) -> bool:
        """`flush`, then stop the background thread; False where spans were lost. Blocks for at most `timeout` seconds."""
        return self.flush(timeout)

    def add_span_processor(self, processor: "SpanProcessor") -> None:
        """Tell an SDK span processor of every span, in the thread that ends it. Slower: each span is converted."""
        from runtime.tracing.sdk import readable

        self.recorder.add_processor(processor, readable)


def resource_from_env(env: Mapping[str, str]) -> dict[str, AttributeValue]:
    """The attributes of `OTEL_RESOURCE_ATTRIBUTES` (`key=value,key=value`, values percent-encoded)."""
    found: dict[str, AttributeValue] = {}
    for item in env.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, equals, value = item.partition("=")
        if equals and key.strip():
            found[key.strip()] = unquote(value.strip())
    return found
