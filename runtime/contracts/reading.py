"""The mentions in one statement of an application: messages, methods of `self`, and the functions and classes to read on.

A message in an annotation, in ``isinstance`` or in a ``case`` is no mention, since nothing is sent or emitted there.
"""

import ast
import builtins
import importlib
import pkgutil
import sys
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any, Final, NamedTuple

from runtime.actor.message import Contract
from runtime.contracts.source import Module, Place, Sources

_ARGUMENT = {"emit": 0, "command": 0, "query": 0, "tell": 0, "remind": 1, "schedule": 1, "events": 0}
"""The methods that take a message, and its place among their arguments."""


ANY_MODULE: Final = ""
"""The name that stands for each module in `Reading.modules`."""
_LOOKUPS: Final = (
    builtins.__import__, builtins.eval, builtins.exec, importlib.import_module, pkgutil.resolve_name, sys.modules,
)  # fmt: skip
"""The objects by which code finds names of any module."""


class Mention(NamedTuple):
    """A message class in an expression."""

    contract: Contract
    place: Place
    via: str
    """The method that takes the message at this place: ``emit``, ``command``, ``query``, ``tell``, ``remind``, ``schedule``,
    or ``events`` of a bus; empty if it is made here and passed on, or if the class itself is passed on."""
    call: ast.Call | None
    """The call of the class, with the fields that it sets; None if they are not known."""


class Read(NamedTuple):
    """The read of a field of a variable: ``event.total``."""

    variable: str
    field: str
    place: Place


class Reading:
    """The mentions of one statement.

    Args:
        sources: The sources of the application.
        module: The module that has the statement.
        nodes: The statement, or some parts of it.
    """

    def __init__(self, sources: Sources, module: Module, nodes: Iterable[ast.AST]) -> None:
        self.module = module
        self.mentions: list[Mention] = []
        self.reads: list[Read] = []
        """The reads of fields of local variables."""
        self.attributes: set[str] = set()
        """The attributes of `self` and ``super()`` that are used, among them the methods of the actor that are called."""
        self.references: list[type | FunctionType] = []
        """The functions and classes that are used."""
        self.constants: set[str] = set()
        """The other names of the module that are used."""
        self.modules: set[str] = set()
        """The modules whose names the statement looks up when it runs, as ``getattr(messages, name)`` does; `ANY_MODULE` for
        a module whose name is not known."""
        self.passed: set[str] = set()
        """The methods that are called with a message that is not made in the call: ``emit`` for ``self.emit(event)``."""
        self.replaced: set[str] = set()
        """The names of the keyword arguments of all calls that are no call of a message class."""
        visitor = _Visitor(sources, self)
        for node in nodes:
            visitor.visit(node)


class _Visitor(ast.NodeVisitor):
    def __init__(self, sources: Sources, reading: Reading) -> None:
        self._sources = sources
        self._reading = reading
        self._module = reading.module
        self._annotation = False

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
            self.visit(node.args[0])
            return
        if self._message(node, ""):
            return
        if isinstance(node.func, ast.Name) and node.func.id in ("globals", "vars") and not node.args:
            self._reading.modules.add(self._module.name)
        self._reading.replaced |= {keyword.arg for keyword in node.keywords if keyword.arg}
        taken = self._taken(node)
        self.visit(node.func)
        for part in [*node.args, *(keyword.value for keyword in node.keywords)]:
            if part not in taken:
                self.visit(part)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._use(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = node.value.func if isinstance(node.value, ast.Call) else node.value
        if isinstance(owner, ast.Name) and owner.id in ("self", "super"):
            self._reading.attributes.add(node.attr)
        if node.attr == "__subclasses__":
            self._reading.modules.add(ANY_MODULE)
        if isinstance(node.value, ast.Name) and isinstance(node.ctx, ast.Load):
            self._reading.reads.append(Read(node.value.id, node.attr, self._module.place(node)))
        if not self._use(node):
            self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._visit_annotation(node.annotation)
        for part in (node.target, node.value):
            if part is not None:
                self.visit(part)

    def visit_arg(self, node: ast.arg) -> None:
        self._visit_annotation(node.annotation)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def visit_MatchClass(self, node: ast.MatchClass) -> None:
        for part in [*node.patterns, *node.kwd_patterns]:
            self.visit(part)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            self._visit_annotation(base)
        for part in [*node.keywords, *node.decorator_list, *node.body]:
            self.visit(part)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_annotation(node.returns)
        for part in [*node.decorator_list, node.args, *node.body]:
            self.visit(part)

    def _visit_annotation(self, node: ast.expr | None) -> None:
        if node is not None:
            before, self._annotation = self._annotation, True
            self.visit(node)
            self._annotation = before

    def _taken(self, node: ast.Call) -> list[ast.expr]:
        """Note the messages that a call of `emit`, `command` and so on takes, and return the arguments that are noted."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name not in _ARGUMENT:
            return []
        given = [keyword.value for keyword in node.keywords if keyword.arg in ("message", "event")]
        given += node.args if name == "events" else node.args[_ARGUMENT[name] :][:1]
        taken: list[ast.expr] = []
        for argument in given:
            choices = [argument.body, argument.orelse] if isinstance(argument, ast.IfExp) else [argument]
            for choice in choices:
                if self._message(choice, name) or (name == "events" and self._bare(choice, name)):
                    taken.append(choice)
                elif not isinstance(choice, ast.Constant):
                    self._reading.passed.add(name)
            if isinstance(argument, ast.IfExp) and taken:
                self.visit(argument.test)
                for choice in choices:
                    if choice not in taken:
                        self.visit(choice)
                taken.append(argument)
        return taken

    def _message(self, node: ast.expr, via: str) -> bool:
        """Note the message that a call makes, ``Event.of(…)`` included. Return False if it makes none."""
        if not isinstance(node, ast.Call):
            return False
        contract = _contract(self._sources.resolve(self._module, node.func))
        call: ast.Call | None = node
        if contract is None and isinstance(node.func, ast.Attribute) and node.func.attr == "of":
            contract, call = _contract(self._sources.resolve(self._module, node.func.value)), None
        if contract is None:
            return False
        self._note(contract, node, via, call)
        for part in [*node.args, *(keyword.value for keyword in node.keywords)]:
            self.visit(part)
        return True

    def _bare(self, node: ast.expr, via: str) -> bool:
        contract = _contract(self._sources.resolve(self._module, node))
        if contract is not None:
            self._note(contract, node, via, None)
        return contract is not None

    def _note(self, contract: Contract, node: ast.AST, via: str, call: ast.Call | None) -> None:
        self._reading.mentions.append(Mention(contract, self._module.place(node), via, call))
        self._reading.references.append(contract.type)

    def _use(self, node: ast.Name | ast.Attribute) -> bool:
        """Note the object of a name; return False if it is not known."""
        if not self._annotation and self._bare(node, ""):
            return True
        found = self._sources.resolve(self._module, node)
        if found is None and isinstance(node, ast.Name):
            found = vars(builtins).get(node.id)
        if isinstance(found, ModuleType):
            self._reading.modules.add(found.__name__)
        elif any(found is each for each in _LOOKUPS):
            self._reading.modules.add(ANY_MODULE)
        elif isinstance(found, type | FunctionType):
            self._reading.references.append(found)
        elif isinstance(node, ast.Name):
            self._reading.constants.add(node.id)
        return found is not None


def _contract(value: Any) -> Contract | None:
    found = vars(value).get("__contract__") if isinstance(value, type) else None
    return found if isinstance(found, Contract) else None
