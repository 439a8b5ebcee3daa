"""The failure of a handler: one place decides whether an exception is the failure of a message or the end of its worker.

A handler may raise anything. A library written in Rust raises subclasses of `BaseException`, and `sys.exit` in a handler
raises `SystemExit`. Each is the failure of one message: it is answered, retried or dead-lettered like any other.
`SystemExit` and `KeyboardInterrupt` also ask for the end of the process, which then drains.
"""

import asyncio
from collections.abc import Callable


def failure_of(
    error: BaseException, request_exit: Callable[[BaseException], None], survives: Callable[[], bool] | None = None
) -> BaseException | None:
    """Return the failure of the message whose handler raised `error`; None if its worker ends, and `error` must be raised.

    Args:
        error: The exception.
        request_exit: Called with an exception that asks for the end of the process.
        survives: `Workers.survives_cancellation`, in a worker. A handler may cancel its own task, or that of another handler.
    """
    if isinstance(error, Exception):
        return error
    if isinstance(error, asyncio.CancelledError):
        return _foreign_cancellation(error, survives)
    if isinstance(error, GeneratorExit) and _is_closed():
        return None
    if isinstance(error, SystemExit | KeyboardInterrupt):
        request_exit(error)
    return error


def _foreign_cancellation(error: asyncio.CancelledError, survives: Callable[[], bool] | None) -> Exception | None:
    """Return a failure for a handler that let a cancellation by the application escape; None if its worker is cancelled."""
    text = "the handler awaited something that was cancelled"
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        if survives is None or not survives():
            return None
        text = "the application has cancelled the task of the handler"
    failure = RuntimeError(text)
    failure.__cause__ = error
    return failure


def _is_closed() -> bool:
    """Return whether the event loop has ended. Python then closes the coroutines that are left, by a `GeneratorExit`."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False
