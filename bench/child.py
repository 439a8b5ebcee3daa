"""One side of a contender in a process of its own: `python -m bench.child bench.sides.raw:pricing '{"url": …}'`.

A side is an async context manager; its methods are called by JSON lines on stdin and answered by JSON lines on stdout.
It ends when stdin does, so that nothing outlives the bench. Only the standard library, as peers run in environments of
their own.
"""

import asyncio
import importlib
import json
import sys
import traceback
from contextlib import AbstractAsyncContextManager
from typing import Any


async def serve(side: AbstractAsyncContextManager[Any]) -> None:
    """Answer calls until stdin ends. A call that fails is answered with its traceback, and the side goes on."""
    reader = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with side as methods:
        _say({"ready": True})
        while line := await reader.readline():
            call = json.loads(line)
            try:
                _say({"result": await getattr(methods, call["do"])(**call["with"])})
            except Exception:  # noqa: BLE001 - whatever it is, the parent says it and fails
                _say({"error": traceback.format_exc()})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(where: str, spec: str) -> None:
    """Run the side at ``module:name``; `uvloop` in its spec chooses the loop."""
    arguments = json.loads(spec)
    factory = None
    if arguments.pop("uvloop", False):
        import uvloop

        factory = uvloop.new_event_loop
    module, _, name = where.partition(":")
    side = getattr(importlib.import_module(module), name)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(side(**arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
