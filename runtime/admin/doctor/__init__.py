"""The doctor: checks a NATS server and the services on it, and reports problems and risks with their remedies.

It changes nothing that exists. With `probe` it creates a stream of its own for a moment, to try the operations that actors
need.
"""

from collections.abc import AsyncIterator, Iterable

from runtime.admin.doctor.finding import Finding, Status, fail
from runtime.admin.doctor.server import check_server
from runtime.admin.doctor.services import RunningService, check_services
from runtime.errors import ActorError
from runtime.nats.connection import Connection
from runtime.nats.jetstream.client import JetStream

__all__ = ["Finding", "RunningService", "Status", "examine"]


async def examine(
    connection: Connection,
    *,
    namespace: str = "",
    replicas: int = 1,
    running: Iterable[RunningService] = (),
    monitor: str = "",
    probe: bool = True,
    timeout: float = 5.0,
) -> AsyncIterator[Finding]:
    """Check a server and its services, and yield the findings one by one.

    A problem is always a finding and never an exception, even if the server stops to answer.

    Args:
        connection: The connection to the server.
        namespace: The namespace of the services.
        replicas: The number of replicas that streams should have.
        running: The running services, as discovery found them.
        monitor: The URL of the monitoring port of the server; by default port 8222 of its host.
        probe: Whether to create a stream, and messages in streams, for a moment.
        timeout: Seconds for each request.
    """
    jetstream = JetStream(connection, timeout)
    async for finding in check_server(
        connection, jetstream, namespace=namespace, replicas=replicas, monitor=monitor, probe=probe
    ):
        yield finding
        if finding.subject == "jetstream" and finding.status == "fail":
            return
    try:
        async for finding in check_services(
            jetstream, namespace=namespace, replicas=replicas, running=running, probe=probe
        ):
            yield finding
    except (ActorError, TimeoutError) as error:
        yield fail("services", f"cannot be checked: {error}", "is a server down, or a permission missing?")
