"""The headers of a command by `tell` on its way to the stream of an actor."""

from runtime.wire import header_block
from runtime.wire.fingerprint import fingerprint


def tell_headers(actor: str, command: str, tell_id: str, body: bytes, due: float, trace: bytes) -> bytes:
    """Return the header block of a command by `tell`.

    Args:
        actor: The name of the actor.
        command: The class name of the command.
        tell_id: The id. The server drops the same command under the same id within two minutes, and the actor a later one. The actor
            gets another command under this id, and refuses it.
        body: The JSON of the command.
        due: The time before which the command does not run, in Unix seconds; 0 if it runs at once.
        trace: The header lines of its trace context.
    """
    message_id = f"{tell_id}/{fingerprint(f'{actor}.{command}'.encode(), body)}"
    lines = [
        header_block.line(header_block.MESSAGE_ID, message_id.encode()),
        header_block.line(header_block.IDEMPOTENCY_KEY, tell_id.encode()),
        header_block.line(header_block.TIMER_COMMAND, command.encode()),
    ]
    if due:
        lines.append(header_block.line(header_block.DUE, repr(due).encode()))
    return header_block.join(trace, *lines)
