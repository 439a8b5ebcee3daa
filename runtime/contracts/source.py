"""The source of an application as syntax trees: the statement that defines a name, and the object that a name stands for.

The modules are imported already, so a name is looked up in its module and not guessed from the text.
"""

import ast
import os
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from io import BytesIO
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from runtime.actor.raised_at import is_library

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef
Name = tuple[str, str]
"""A module and a name with dots in it: ``("actors.orders.actor", "Orders.create_order")``."""

_RUNTIME = __name__.partition(".")[0]


class Place(NamedTuple):
    """A line of a file."""

    file: str
    """The path, relative to the working directory for a file below it."""
    line: int


def package_of(module: str) -> str:
    """Return the package of an application that has a module: ``my_package``, or ``runtime.router`` of this library."""
    names = module.split(".")
    return ".".join(names[: 2 if names[0] == _RUNTIME else 1])


class Module:
    """The source of one imported module.

    Args:
        name: The dotted name.
        file: Its path.
        text: The bytes of the file.

    Raises:
        SyntaxError: The file has changed since the import, and is no Python now.
    """

    def __init__(self, name: str, file: str, text: bytes) -> None:
        self.name = name
        self.file = os.path.relpath(file) if Path(file).is_relative_to(Path.cwd()) else file
        self.tree = ast.parse(text, file)
        self._text = text

    @cached_property
    def statements(self) -> dict[str, list[ast.stmt]]:
        """The statements at the top of the module by the names in them: a definition by its name, its decorators included."""
        found: dict[str, list[ast.stmt]] = {}
        for statement in _top(self.tree.body):
            if isinstance(statement, Definition):
                parts: list[ast.AST] = [*statement.decorator_list]
                names = [statement.name]
            else:
                parts = [statement]
                names = []
            names += [each.id for part in parts for each in ast.walk(part) if isinstance(each, ast.Name)]
            for name in dict.fromkeys(names):
                found.setdefault(name, []).append(statement)
        return found

    @cached_property
    def imported(self) -> dict[str, Name]:
        """The module and the name there of each name that the module imports, wherever the import is."""
        package = self.name if self.file.endswith("__init__.py") else self.name.rpartition(".")[0]
        found: dict[str, Name] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
                origin = ".".join(part for part in (base, node.module) if part)
                found |= {alias.asname or alias.name: (origin, alias.name) for alias in node.names}
            elif isinstance(node, ast.Import):
                found |= {alias.asname or alias.name.partition(".")[0]: (alias.name, "") for alias in node.names}
        return found

    @cached_property
    def comments(self) -> dict[int, str]:
        """The comments by line."""
        tokens = tokenize.tokenize(BytesIO(self._text).readline)
        return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}

    def definition(self, qualname: str) -> Definition | None:
        """Return the class or function of a qualified name: ``Orders.create_order``. None if the module defines none."""
        body: list[ast.stmt] = self.tree.body
        found: Definition | None = None
        for name in qualname.split("."):
            if name == "<locals>":
                continue
            found = next((each for each in _top(body) if isinstance(each, Definition) and each.name == name), None)
            if found is None:
                return None
            body = found.body
        return found

    def header(self, line: int) -> range:
        """Return the lines of the class or function whose first lines have `line`: from its decorators to its body.

        For a line that is no such line, this is the line alone.
        """
        for node in ast.walk(self.tree):
            if isinstance(node, Definition):
                start = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                end = max(node.lineno + 1, node.body[0].lineno)
                if start <= line < end:
                    return range(start, end)
        return range(line, line + 1)

    def outermost(self, line: int) -> str:
        """Return the name of the class or function at the top of the module that has a line; empty if none has it."""
        for node in _top(self.tree.body):
            if isinstance(node, Definition):
                start = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                if start <= line <= (node.end_lineno or node.lineno):
                    return node.name
        return ""

    def place(self, node: ast.AST) -> Place:
        """Return the place of a node."""
        return Place(self.file, getattr(node, "lineno", 1))


class Sources:
    """The sources of the imported modules of an application. Each file is read once.

    Modules of this library and of installed packages have no source here, and neither have modules without a Python file.

    Args:
        packages: The installed packages that belong to the application, as `package_of` returns them.
    """

    def __init__(self, packages: Iterable[str] = ()) -> None:
        self._packages = frozenset(packages)
        self._modules: dict[str, Module | None] = {}

    def module(self, name: str) -> Module | None:
        """Return the source of an imported module; None if it has none."""
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def closure(self, names: Iterable[str]) -> list[Module]:
        """Return the modules of these names, and those that they import, directly or not."""
        found: dict[str, Module] = {}
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found and (module := self.module(name)) is not None:
                found[name] = module
                for origin, inner in module.imported.values():
                    waiting += [origin, f"{origin}.{inner}"]
        return [module for _, module in sorted(found.items())]

    def definition(self, value: type | FunctionType) -> tuple[Module, Definition] | None:
        """Return the statement that defines a class or function; None if there is no source of it."""
        module = self.module(value.__module__)
        found = module.definition(value.__qualname__) if module is not None else None
        return (module, found) if module is not None and found is not None else None

    def function(self, value: Callable[..., Any]) -> tuple[Module, Function] | None:
        """Return the statement that defines a function; None if there is no source of it."""
        found = self.definition(value) if isinstance(value, FunctionType) else None
        return (found[0], found[1]) if found is not None and not isinstance(found[1], ast.ClassDef) else None

    def place(self, value: type | FunctionType) -> Place | None:
        """Return the line of ``class`` or ``def`` of a class or function; None if there is no source of it."""
        found = self.definition(value)
        return found[0].place(found[1]) if found is not None else None

    def resolve(self, module: Module, node: ast.expr) -> Any:
        """Return the object that a name in a module stands for, with dots in it or not; None if it is not known."""
        if isinstance(node, ast.Name):
            found = vars(sys.modules[module.name]).get(node.id)
            if found is None and node.id in module.imported:  # an import inside of a function
                origin, name = module.imported[node.id]
                holder = sys.modules.get(origin)
                found = getattr(holder, name, None) if name else holder
            return found
        if isinstance(node, ast.Attribute):
            owner = self.resolve(module, node.value)
            return vars(owner).get(node.attr) if isinstance(owner, ModuleType) else None
        return None

    def value(self, module: Module, name: str) -> Any:
        """Return the object of a name at the top of a module; None if there is none."""
        return vars(sys.modules[module.name]).get(name)

    def values(self, module: Module) -> list[Any]:
        """Return the classes and functions that a module defines itself."""
        return [
            each for each in vars(sys.modules[module.name]).values() if getattr(each, "__module__", "") == module.name
        ]

    def statements(self, module: Module, name: str) -> Iterator[tuple[Module, ast.stmt]]:
        """Yield the statements that make a constant: those at the top of the module that has it with its name in them."""
        seen: set[Name] = set()
        while (module.name, name) not in seen:
            seen.add((module.name, name))
            if name in module.imported and module.imported[name][1]:
                origin, name = module.imported[name]
                source = self.module(origin)
                if source is None:
                    return
                module = source
        for statement in module.statements.get(name, ()):
            yield module, statement

    def _read(self, name: str) -> Module | None:
        found = sys.modules.get(name)
        file = getattr(found, "__file__", None)
        if file is None or not file.endswith(".py"):
            return None
        if package_of(name) not in self._packages and (name.startswith(f"{_RUNTIME}.") or is_library(file)):
            return None
        try:
            return Module(name, file, Path(file).read_bytes())
        except (OSError, SyntaxError):
            return None


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a body, those inside of ``if`` and ``try`` included; those of ``__main__`` not."""
    for statement in body:
        if isinstance(statement, ast.If):
            if "__main__" not in ast.dump(statement.test):
                yield from _top([*statement.body, *statement.orelse])
        elif isinstance(statement, ast.Try):
            handled = [each for handler in statement.handlers for each in handler.body]
            yield from _top([*statement.body, *handled, *statement.orelse, *statement.finalbody])
        elif isinstance(statement, ast.With):
            yield from _top(statement.body)
        else:
            yield statement
