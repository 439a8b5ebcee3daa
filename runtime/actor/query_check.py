"""The check at import that the handler of a query changes nothing.

The check reads the syntax tree of the handler's source and refuses the plain forms, ``self.emit(…)`` and ``self.state = …``.
It does not follow names (``me = self``), functions that the handler calls, or functions inside the handler. Without source
(a class made by `exec` or at the prompt) there is nothing to read. In all these cases the call refuses when the handler runs.
"""

import ast
import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from runtime.errors import DeclarationError

_CHANGES = frozenset({"emit", "command", "remind", "schedule", "cancel"})
"""The methods of an actor that a query may not call."""

_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def check_reads_only(label: str, function: Callable[..., Any]) -> None:
    """Check the handler of a query.

    Args:
        label: The name of the handler in error texts.
        function: The handler.

    Raises:
        DeclarationError: The handler calls a method that changes something, or assigns the state.
    """
    change = _find_change(inspect.unwrap(function))
    if change:
        raise DeclarationError(f"{label}: a query changes nothing: it cannot {change}")


@lru_cache(maxsize=1024)  # `runtime.testing.worker` makes a class, and with it this check, for each call
def _find_change(function: Callable[..., Any]) -> str:
    """Return the first change that the source of a function makes (``emit``, ``change state``), or an empty string."""
    definition = _definition(function)
    if definition is None:
        return ""
    own = next((argument.arg for argument in [*definition.args.posonlyargs, *definition.args.args]), None)
    for node in _walk(definition):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == own):
            continue
        if node.attr == "state" and isinstance(node.ctx, ast.Store):
            return "change state"
        if node.attr in _CHANGES and isinstance(node.ctx, ast.Load):
            return node.attr
    return ""


def _definition(function: Callable[..., Any]) -> ast.AsyncFunctionDef | None:
    """Return the syntax tree of a function, or None if its source cannot be found."""
    try:
        source = inspect.getsource(function)
        if source[:1].isspace():  # the method of a class
            source = f"if True:\n{source}"
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError):
        return None
    found = (node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef))
    definition = next(found, None)
    return definition if definition is not None and definition.name == function.__name__ else None


def _walk(definition: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function in the order of the source, without those of functions and lambdas inside it."""
    for node in ast.iter_child_nodes(definition):
        yield node
        if not isinstance(node, _FUNCTIONS):
            yield from _walk(node)
