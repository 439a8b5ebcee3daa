"""The reports of a process: what does not work, for `/readyz` of the process and for `actorloom doctor`."""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from typing import Protocol

from runtime.errors import PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.storage.status import REPEAT, ProcessStatus, write_status
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.host")

_TICK = 0.25
"""Seconds between two looks at the hosts."""


class Reporting(Protocol):
    """The part of `Host` that its reports use."""

    @property
    def names(self) -> Names:
        """The names of the actor."""
        ...

    @property
    def holder(self) -> str:
        """The name of the process."""
        ...

    @property
    def problems(self) -> list[str]:
        """Why the actor is not ready."""
        ...

    @property
    def warnings(self) -> list[str]:
        """What does not work although the actor serves."""
        ...


class Reports:
    """Writes the status of each host of a process whenever it changes, and repeats it while there is a problem.

    Args:
        hosts: The hosts.
        jetstream: The client.
    """

    def __init__(self, hosts: Sequence[Reporting], jetstream: JetStream) -> None:
        self._hosts = hosts
        self._jetstream = jetstream
        self._written: dict[str, tuple[ProcessStatus, float]] = {}
        """The status of each actor that was written last, and the time."""

    async def run(self) -> None:
        """Report until the task is cancelled. The entries are then removed."""
        try:
            while True:
                for host in self._hosts:
                    self._report(host)
                await asyncio.sleep(_TICK)
        finally:
            for host in self._hosts:
                if host.names.actor in self._written:
                    self._write(host, None)

    def _report(self, host: Reporting) -> None:
        problems, warnings = host.problems, host.warnings
        last = self._written.get(host.names.actor)
        if not problems and not warnings:
            if last is not None:
                self._write(host, None)
            return
        status = ProcessStatus(socket.gethostname(), os.getpid(), problems, warnings)
        now = asyncio.get_running_loop().time()
        if last is None or last[0] != status or now - last[1] >= REPEAT:
            self._write(host, status)

    def _write(self, host: Reporting, status: ProcessStatus | None) -> None:
        try:
            write_status(self._jetstream, host.names, host.holder, status)
        except PublishError as error:
            logger.debug("%s: its status was not written: %s", host.names.actor, error)
            return
        if status is None:
            self._written.pop(host.names.actor, None)
        else:
            self._written[host.names.actor] = (status, asyncio.get_running_loop().time())
