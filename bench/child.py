"""Runs one side of a contender in its own process: ``python -m bench.child bench.sides.raw:pricing '{"url": …}'``.

A side is an async context manager that yields an object. Each JSON line on stdin calls a method of that object; each JSON
line on stdout holds a result. The process ends when stdin is closed, so no side outlives the bench. This module uses the
standard library only, because peers run in environments of their own.
"""

import asyncio
import importlib
import json
import sys
import traceback
from contextlib import AbstractAsyncContextManager
from typing import Any


async def serve(side: AbstractAsyncContextManager[Any]) -> None:
    """Enter the side and answer calls until stdin is closed.

    A call that raises is answered with its traceback, and the side keeps serving.
    """
    reader = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with side as methods:
        _write({"ready": True})
        while line := await reader.readline():
            call = json.loads(line)
            try:
                _write({"result": await getattr(methods, call["do"])(**call["with"])})
            except Exception:  # noqa: BLE001 - the parent process raises it as a ChildError
                _write({"error": traceback.format_exc()})


def _write(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(target: str, spec: str) -> None:
    """Run a side.

    Args:
        target: The side's factory, as ``module:name``.
        spec: A JSON object with the factory's arguments. ``uvloop`` is not passed on: true selects that event loop.
    """
    arguments = json.loads(spec)
    factory = None
    if arguments.pop("uvloop", False):
        import uvloop

        factory = uvloop.new_event_loop
    module, _, name = target.partition(":")
    side = getattr(importlib.import_module(module), name)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(side(**arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
