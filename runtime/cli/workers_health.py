"""The health port of `run --workers`: one answer for all workers.

- ``/livez``: 200 if each worker whose event loop has begun to run answers with 200 within three seconds.
- ``/readyz``: 200 if each worker is ready; the reasons and warnings name their worker.
- ``/metrics``: the metrics of the workers that answer, each series with the label `worker`, and those of the parent.
"""

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol

import msgspec

from runtime.host.health import MAX_LAG, Answer, Health, answer_json
from runtime.telemetry.metrics import prometheus

_PATIENCE: Final = 3.0
"""Seconds for the answer of a worker. The client of the health port has five in all."""


class Asked(Protocol):
    """The part of a worker that the health port uses."""

    number: int
    begun: bool
    restarts: int
    failure: str

    async def ask(self, path: str, timeout: float) -> Answer:
        """Return the worker's own answer. Raises `TimeoutError`."""
        ...


class WorkersHealth:
    """Answers for all workers.

    Args:
        workers: The workers.
        own: The health of the parent.
        stopping: Returns whether the workers are to end.
    """

    def __init__(self, workers: Sequence[Asked], own: Health, stopping: Callable[[], bool]) -> None:
        self._workers = workers
        self._own = own
        self._stopping = stopping

    async def answer(self, path: str) -> Answer:
        """Return the answer for a path. An unknown path has the status 404."""
        match path:
            case "/livez":
                return await self._livez(path)
            case "/readyz":
                return await self._readyz(path)
            case "/metrics":
                return await self._metrics(path)
            case _:
                return await self._own.answer(path)

    async def _livez(self, path: str) -> Answer:
        reasons: list[str] = []
        lags = [self._own.lag]
        for worker, answer in await self._ask(path):
            if answer is not None:
                lags.append(float(_decoded(answer).get("lag", 0.0)))
                if answer.status != HTTPStatus.OK:
                    reasons.append(f"the event loop of worker {worker.number} is late")
            elif worker.begun:
                reasons.append(f"worker {worker.number} does not answer")
        alive = not reasons and max(lags) < MAX_LAG
        return answer_json(alive, {"lag": max(lags), **({"reasons": reasons} if reasons else {})})

    async def _readyz(self, path: str) -> Answer:
        reasons: list[str] = []
        warnings: list[str] = []
        for worker, answer in await self._ask(path):
            if answer is not None:
                found = _decoded(answer)
                reasons += [f"worker {worker.number}: {text}" for text in found.get("reasons", ())]
                warnings += [f"worker {worker.number}: {text}" for text in found.get("warnings", ())]
            elif worker.begun:
                reasons.append(f"worker {worker.number} does not answer")
            elif self._stopping():
                reasons.append(f"worker {worker.number} has ended")
            else:
                failure = f": {worker.failure}" if worker.failure else ""
                reasons.append(f"worker {worker.number} is starting{failure}")
        return answer_json(not reasons, {"reasons": reasons, **({"warnings": warnings} if warnings else {})})

    async def _metrics(self, path: str) -> Answer:
        answers = await self._ask(path)
        texts = {str(worker.number): answer.body.decode() for worker, answer in answers if answer is not None}
        up = {str(worker.number): int(answer is not None) for worker, answer in answers}
        restarts = {str(worker.number): worker.restarts for worker in self._workers}
        text = prometheus.merge(texts)
        text += prometheus.of_workers("gauge", "actorloom_worker_up", "Whether the worker answers: 1 or 0.", up)
        name, description = "actorloom_worker_restarts_total", "Processes of the worker after the first one."
        text += prometheus.of_workers("counter", name, description, restarts)
        return Answer(HTTPStatus.OK, prometheus.CONTENT_TYPE, text.encode())

    async def _ask(self, path: str) -> list[tuple[Asked, Answer | None]]:
        """Ask all workers at once. The answer is None if a worker has none."""
        found = await asyncio.gather(*(each.ask(path, _PATIENCE) for each in self._workers), return_exceptions=True)
        answers: list[tuple[Asked, Answer | None]] = []
        for worker, answer in zip(self._workers, found, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, TimeoutError):
                raise answer
            answers.append((worker, None if isinstance(answer, BaseException) else answer))
        return answers


def _decoded(answer: Answer) -> dict[str, Any]:
    return msgspec.json.decode(answer.body, type=dict[str, Any])
