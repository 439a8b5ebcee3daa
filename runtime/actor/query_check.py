"""The check at import that the handler of a query is read-only.

The check reads the syntax tree of the handler's source. It refuses the direct forms, such as ``self.emit(…)`` and
``self.state = …``. It does not follow other names for `self` (``me = self``), functions that the handler calls, or functions
inside the handler. A class that is made by `exec` or at the prompt has no source, so it is not checked. In all these cases
the method itself refuses at run time.
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
"""The nodes of functions inside a handler, which are not searched."""


def check_reads_only(label: str, function: Callable[..., Any]) -> None:
    """Check the handler of a query.

    Args:
        label: The class and method in error texts: ``Orders.get_order``.
        function: The method.

    Raises:
        DeclarationError: The handler calls a method that changes something, or assigns the state.
    """
    change = _find_change(inspect.unwrap(function))
    if change:
        raise DeclarationError(f"{label}: a query changes nothing: it cannot {change}")


@lru_cache(maxsize=1024)  # `runtime.testing.worker` creates a class at each call, which runs this check
def _find_change(function: Callable[..., Any]) -> str:
    """Return the first change in the source of a function (``emit``, ``change state``), or an empty string."""
    definition = _definition(function)
    if definition is None:
        return ""
    receiver = next((argument.arg for argument in [*definition.args.posonlyargs, *definition.args.args]), None)
    for node in _walk(definition):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == receiver):
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
    """Yield the nodes of a function in the order of the source, but not those of functions and lambdas inside it."""
    for node in ast.iter_child_nodes(definition):
        yield node
        if not isinstance(node, _FUNCTIONS):
            yield from _walk(node)
