"""The errors of Actorloom, in one tree.

True, False and None are the usual values of `RequestError.executed`; None means unknown.

ActorError
├ DeclarationError     an invalid declaration; raised at import
├ ConfigurationError   an invalid setting, or an existing stream or consumer with unusable settings
├ RequestError         a query or command that failed, with code and executed
│ ├ NotDelivered         503, False: no process serves the subject; safe to retry
│ │ └ CircuitOpen          503, False: not sent, after failures in a row
│ ├ Overloaded           429, False: the mailbox or the lane is full
│ ├ DeadlineExceeded     408, None: no reply in time; retry under the same id
│ ├ CallCycle            508, False: the call came back to a key that waits for it
│ └ RemoteError          an error reply of an actor, with code, kind and text
│   ├ Rejected             409, False: the domain refuses the command; subclass it
│   │ └ NotFound             404, False: the thing does not exist
│   ├ Forbidden           403, False: the command is for the actor itself
│   ├ IdReused            409, False: the id of the command stands for another command
│   ├ InvalidMessage       400, False: the message does not match its type
│   ├ TooLarge             413, False: the record, event or timer of the turn does not fit one message
│   └ HandlerFailed        500, None: the handler raised an unexpected error
├ Retry                raised in a reaction to ask for another attempt
├ PublishError         a message that was not sent or not acknowledged
└ CodecError           bytes that do not decode, or a value that cannot be encoded
  └ InvalidValue         a value that its own type refuses; nothing was stored or sent
"""

from typing import ClassVar, NoReturn

from runtime.clocks import is_duration


class ActorError(Exception):
    """The root of all errors raised by this package."""


class DeclarationError(ActorError):
    """A message, handler or actor has an invalid declaration, or a handler calls a method that it may not call.

    Most declarations are checked when their class is created, so the error is raised at import. The text names the class
    and the field or method.
    """


class ConfigurationError(ActorError):
    """A setting is invalid, or a stream or consumer on the server has settings that the runtime cannot work with.

    The text names the setting and its source, or the stream or consumer.
    """


class RequestError(ActorError):
    """The root of the errors of a query or command.

    A handler may raise one to answer with it. An error that a nested call received in a reply is different: if the handler
    does not catch it, the handler has failed, and its caller receives `HandlerFailed`. Only a `CallCycle` is passed on.

    Example:
        try:
            await bus.command(CreateOrder("1"), id=order_id)
        except RequestError as error:
            if error.executed is None:  # unknown: the same id cannot take effect twice
                await bus.retry(CreateOrder("1"), id=order_id)
    """

    code: int = 500
    """The code of the error on the wire: the status codes of HTTP."""
    executed: bool | None = None
    """True if the command took effect, False if it certainly did not, None if that is unknown.

    It covers all runs of the handler for this request, and the commands that the handler has sent: a rejection that follows a
    nested command has the outcome None. It does not cover earlier requests under the same id.

    If it is False, a retry repeats nothing. If it is None, retry a command under the same id (`Bus.retry` does): an id takes
    effect once.
    """
    remote: bool = False
    """Whether the error was received in a reply."""


class NotDelivered(RequestError):
    """No process serves the subject, the service is stopping or cannot store the turn, or the connection is down (503).

    Nothing was executed, so it is safe to retry, unless `executed` is None: an earlier attempt or a command that the handler
    had sent may have been executed. Retry it under the same id then.
    """

    code = 503
    executed = False


class CircuitOpen(NotDelivered):
    """The request was not sent, because the target has left several requests in a row unanswered.

    While the circuit is open, one request per quarter of a second is sent as a probe. A reply closes the circuit.
    """


class Overloaded(RequestError):
    """The mailbox of the actor, or the lane of the key, is full (429). Nothing was executed.

    Args:
        message: The text of the error.
        retry_after: Seconds after which a retry is likely to find room, a year at most.
    """

    code = 429
    executed = False
    retry_after: float = 0.1

    def __init__(self, message: str, retry_after: float = 0.1) -> None:
        if not is_duration(retry_after):
            raise ValueError(f"Overloaded: retry_after = {retry_after!r} is not a number of seconds from 0 to a year")
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(RequestError):
    """There was no reply before the deadline (408).

    Args:
        message: The text of the error.
        executed: False if the actor has refused the message because of its deadline, None if the outcome is unknown.
    """

    code = 408

    def __init__(self, message: str, executed: bool | None = None) -> None:
        super().__init__(message)
        self.executed = executed


class CallCycle(RequestError):
    """The chain of nested calls came back to a key that waits for it (508). The text names the path.

    Without this error the calls would wait for each other until their deadline.
    """

    code = 508
    executed = False


class RemoteError(RequestError):
    """An error reply of an actor.

    Args:
        message: The text of the error.
        code: The code on the wire; by default that of the class.
        kind: The name of the error on the wire; by default the name of the class.
    """

    kinds: ClassVar[dict[str, "type[RemoteError]"]] = {}
    """All subclasses by name. An error reply becomes the class that its `kind` names, if this process has imported it."""

    def __init__(self, message: str, *, code: int | None = None, kind: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.kind = kind or type(self).__name__

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # The first class of a name stays, so a class of an application cannot replace a built-in one.
        RemoteError.kinds.setdefault(cls.__name__, cls)


class Rejected(RemoteError):
    """The domain refuses the command (409). Subclass it for refusals that callers distinguish.

    Its turn has no effect. If the handler had sent commands before it refused, their effects stay, and `executed` is None.

    In a reaction, it is a permanent failure: the event becomes a dead letter without another attempt. With `retry_after` it is
    not: `Bus.retry` sends the command again after that time, and a reaction, a timer or a command by `tell` has its next attempt then.

    Args:
        message: The text of the error.
        code: The code on the wire; by default that of the class.
        kind: The name of the error on the wire; by default the name of the class.
        retry_after: Seconds after which the command may succeed, a year at most; None if it never will.

    Example:
        class OutOfStock(Rejected):
            pass

        raise OutOfStock("no more chairs")  # the caller catches OutOfStock
        raise OutOfStock("no more chairs today", retry_after=3600)
    """

    code = 409
    executed = False
    retry_after: float | None = None

    def __init__(
        self, message: str, *, code: int | None = None, kind: str | None = None, retry_after: float | None = None
    ) -> None:
        if retry_after is not None and not is_duration(retry_after):
            name = type(self).__name__
            raise ValueError(f"{name}: retry_after = {retry_after!r} is not a number of seconds from 0 to a year")
        super().__init__(message, code=code, kind=kind)
        self.retry_after = retry_after


class NotFound(Rejected):
    """The thing does not exist (404)."""

    code = 404


class Forbidden(RemoteError):
    """The command was not executed: only the actor itself may send it, by a timer (403)."""

    code = 403
    executed = False


class IdReused(RemoteError):
    """The command was not executed: its key has handled another command, or another body, under the same id (409).

    The error tells nothing of the other command. Send this one under an id of its own.

    A handler does not get this error for a command that it sends again in another form: it gets the first reply.
    """

    code = 409
    executed = False


class InvalidMessage(RemoteError):
    """The message does not match its type (400). The text names the field."""

    code = 400
    executed = False


class TooLarge(RemoteError):
    """The turn leaves more than one message of NATS can hold, and was not committed (413).

    The state, the reply and the events of a turn are stored in one message. A retry does not help; the text has the size and
    the limit. In a reaction, it is a permanent failure.
    """

    code = 413
    executed = False


class HandlerFailed(RemoteError):
    """The handler raised an unexpected error (500).

    The text and the traceback of that error are in the log and the span of the actor, and not in the reply.
    """

    code = 500


class Retry(ActorError):
    """Raised in a reaction to have the event delivered again.

    It counts as a failed attempt: after the last one, the event becomes a dead letter.

    Args:
        reason: The text for the log.
        after: Seconds until the next attempt; by default the delay of the retry policy, which doubles with each attempt.

    Raises:
        ValueError: `after` is not a number of seconds from 0 to a year.

    Example:
        raise Retry("the warehouse is closed", after=600)
    """

    after: float | None = None

    def __init__(self, reason: str, after: float | None = None) -> None:
        if after is not None and not is_duration(after):
            raise ValueError(f"Retry: after = {after!r} is not a number of seconds from 0 to a year")
        super().__init__(reason)
        self.after = after


class PublishError(ActorError):
    """A message was not sent, or the server did not acknowledge it.

    Args:
        message: The reason.
        err_code: JetStream's error code if a stream refused the message, else 0.
    """

    def __init__(self, message: str, err_code: int = 0) -> None:
        super().__init__(message)
        self.err_code = err_code


class CodecError(ActorError):
    """Bytes do not decode to the expected type, or a value cannot be encoded."""


class InvalidValue(CodecError):
    """A message, a state or a reply does not fit its own type. Nothing was stored or sent.

    msgspec does not check the fields of a struct when it is made. The check takes place before a message is sent and before a
    turn commits. The text names the field. In a handler, the error is a failure of the handler.
    """

    executed: bool | None = False
    """As in `RequestError`. None if the handler had sent another command before."""


def not_found(message: str) -> NoReturn:
    """Raise `NotFound` in an expression.

    Args:
        message: The text of the error, for the caller.

    Raises:
        NotFound: Always.

    Example:
        return self.state or not_found(f"order {message.order_id}")
    """
    raise NotFound(message)


def from_wire(code: int, kind: str, message: str, executed: bool | None, retry_after: float | None) -> RequestError:
    """Return the exception for an error reply.

    Args:
        code: The code of the reply.
        kind: The name of the error: that of a subclass of `RemoteError`, if this process has imported it.
        message: The text of the error.
        executed: The value of `executed` in the reply.
        retry_after: Seconds after which a retry may succeed; None if the reply has none.
    """
    error: RequestError
    if code == 429:
        error = Overloaded(message, retry_after if retry_after is not None and is_duration(retry_after) else 0.1)
    elif code == 408:
        error = DeadlineExceeded(message)
    elif code == 508:
        error = CallCycle(message)
    elif code == 503:
        error = NotDelivered(message)
    else:
        known = RemoteError.kinds.get(kind) or {400: InvalidMessage, 404: NotFound, 409: Rejected}.get(code)
        # A subclass may have a constructor with other parameters, so it is not called. The caller needs its type only.
        remote = Exception.__new__(known or HandlerFailed, message)
        remote.args = (message,)
        remote.code = code
        remote.kind = kind
        if isinstance(remote, Rejected) and retry_after is not None and is_duration(retry_after):
            remote.retry_after = retry_after
        error = remote
    error.executed = executed
    error.remote = True
    return error
