"""The kinds of errors that a caller may receive, for the description of an operation.

The errors of the domain are found in the code of the handler: the classes that it refers to, and those of the functions and methods
of the same package that it calls by name. An error that is raised through other objects is not found.
"""

import contextlib
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

import msgspec

from runtime.errors import (
    CallCycle,
    DeadlineExceeded,
    HandlerFailed,
    IdReused,
    InvalidMessage,
    NotDelivered,
    NotFound,
    Overloaded,
    RemoteError,
    RequestError,
    not_found,
)

_DEPTH = 3
"""The calls within calls in which errors are looked for."""


class ErrorKind(msgspec.Struct, frozen=True, omit_defaults=True):
    """One kind of error reply."""

    kind: str
    """The ``kind`` in the body of the reply: ``OutOfStock``."""
    code: int
    """The code of the reply."""
    description: str = ""
    """The first line of the docstring of its class."""


def _kind(cls: type[RequestError]) -> ErrorKind:
    doc = (cls.__doc__ or "").strip().partition("\n")[0]
    return ErrorKind(cls.__name__, cls.code, doc)


COMMON_ERRORS = [
    _kind(cls) for cls in (InvalidMessage, DeadlineExceeded, Overloaded, HandlerFailed, NotDelivered, CallCycle)
]
"""The errors with which every operation may answer."""


def kinds_of(function: Any, op: str) -> list[ErrorKind]:
    """Return the errors of the domain that a handler refers to, and of a command `IdReused`, sorted by name."""
    found = set(_errors_in(function, set(), _DEPTH))
    if op == "command":
        found.add(IdReused)
    return sorted((_kind(cls) for cls in found), key=lambda each: each.kind)


def _errors_in(function: Any, seen: set[Any], depth: int) -> Iterator[type[RemoteError]]:
    function = inspect.unwrap(function)
    if not isinstance(function, FunctionType) or function in seen:
        return
    seen.add(function)
    package = function.__module__.partition(".")[0]
    for value in _values(function):
        if isinstance(value, type) and issubclass(value, RemoteError) and value not in _GENERAL:
            yield value
        elif value is not_found:
            yield NotFound
        elif depth and isinstance(value, FunctionType) and value.__module__.partition(".")[0] == package:
            yield from _errors_in(value, seen, depth - 1)


_GENERAL = {RemoteError, InvalidMessage, HandlerFailed}


def _values(function: FunctionType) -> Iterator[Any]:
    """Yield the values of the names in a function: global ones, captured ones, methods of its class, members of modules."""
    scope = dict(function.__globals__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # the variable has no value yet
            scope[name] = cell.cell_contents
    owner = scope.get(function.__qualname__.partition(".")[0])
    for code in _codes(function.__code__):
        names = [*code.co_names, *code.co_freevars]
        values = [scope[name] for name in names if name in scope]
        yield from values
        if isinstance(owner, type):
            yield from (getattr(owner, name) for name in names if isinstance(getattr(owner, name, None), FunctionType))
        for module in values:
            if inspect.ismodule(module):
                yield from (getattr(module, name) for name in names if hasattr(module, name))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
