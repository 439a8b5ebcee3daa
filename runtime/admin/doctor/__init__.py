"""The doctor: looks at a running NATS and at the services on it, and says what is missing or risky, and what to do.

It changes nothing that is there. With `probe` it makes a stream of its own for a moment, to try what actors need.
"""

from collections.abc import AsyncIterator, Iterable

from runtime.admin.doctor.finding import Finding, Status, fail
from runtime.admin.doctor.server import look_at_server
from runtime.admin.doctor.services import Running, look_at_services, source_of
from runtime.errors import ActorError
from runtime.nats.connection import Connection
from runtime.nats.jetstream.client import JetStream

__all__ = ["Finding", "Running", "Status", "examine", "source_of"]


async def examine(
    connection: Connection,
    *,
    namespace: str = "",
    replicas: int = 1,
    running: Iterable[Running] = (),
    monitor: str = "",
    probe: bool = True,
    timeout: float = 5.0,
) -> AsyncIterator[Finding]:
    """Yield finding after finding. `running` is what discovery found; `monitor` the URL of the monitoring port.

    Never raises for what it finds: that nothing can be asked any more is a finding, too.
    """
    jetstream = JetStream(connection, timeout)
    async for finding in look_at_server(
        connection, jetstream, namespace=namespace, replicas=replicas, monitor=monitor, probe=probe
    ):
        yield finding
        if finding.subject == "jetstream" and finding.status == "fail":
            return
    try:
        async for finding in look_at_services(jetstream, namespace=namespace, replicas=replicas, running=running):
            yield finding
    except (ActorError, TimeoutError) as error:
        yield fail("services", f"cannot be looked at: {error}", "is a server down, or a permission missing?")
