"""What `run` is told to run: packages, modules and classes, found as actor types."""

import pkgutil
import traceback
from collections.abc import Iterable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from runtime.actor.base import Actor
from runtime.errors import ConfigurationError, DeclarationError


def find_actors(targets: Iterable[str]) -> list[type[Actor[Any]]]:
    """Return the actors that `targets` name, each once, in order.

    ``my_package``: a package, with the actors in its modules named ``actor``, or else in any of its modules.
    ``my_package.orders``: the same of a part. ``my_package.module:MyActor``: one class. Raises `ConfigurationError` for what
    is not there, and `DeclarationError` for what cannot be imported.
    """
    found: dict[type[Actor[Any]], None] = {}
    for target in targets:
        found |= dict.fromkeys(_named(target) if ":" in target else _within(target))
    return list(found)


def _named(target: str) -> list[type[Actor[Any]]]:
    module_name, _, name = target.partition(":")
    value = getattr(_import(module_name), name, None)
    if value is None:
        raise ConfigurationError(f"{module_name} has no {name!r}")
    if not _is_actor(value):
        raise ConfigurationError(f"{target} is no actor: subclass runtime.Actor with a name")
    return [value]


def _within(target: str) -> list[type[Actor[Any]]]:
    root = _import(target)
    modules = [root, *(_import(name) for name in _submodules(root) if name.rpartition(".")[2] == "actor")]
    found = list(_defined(modules))
    if not found:
        found = list(_defined([root, *map(_import, _submodules(root))]))
    if not found:
        raise ConfigurationError(f"{target} has no actors: name a package or module that has, or module:Class")
    return found


def _submodules(module: ModuleType) -> Iterator[str]:
    for info in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{module.__name__}."):
        if info.ispkg:
            yield info.name
            yield from _submodules(_import(info.name))
        elif not info.name.endswith(".__main__"):
            yield info.name


def _defined(modules: list[ModuleType]) -> Iterator[type[Actor[Any]]]:
    """The actors that the modules define, without those that they import from elsewhere."""
    for module in modules:
        for value in vars(module).values():
            if _is_actor(value) and value.__module__ == module.__name__:
                yield value


def _is_actor(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Actor) and "handlers" in vars(value)


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigurationError(f"there is no module {name!r} (looked in the working directory, too)") from None
        raise DeclarationError(_failed(name, error)) from error
    except Exception as error:
        raise DeclarationError(_failed(name, error)) from error


def _failed(name: str, error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"cannot import {name}: {error.msg} ({error.filename}, line {error.lineno})"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    kind = "" if isinstance(error, DeclarationError) else f"{type(error).__name__}: "
    return f"cannot import {name}: {kind}{error} ({frame.filename}, line {frame.lineno})"
