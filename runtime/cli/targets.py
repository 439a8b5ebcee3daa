"""Targets of `run`: finds actor types in packages and modules."""

import pkgutil
import traceback
from collections.abc import Iterable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from runtime.actor.base import Actor
from runtime.errors import ConfigurationError, DeclarationError


def find_actors(targets: Iterable[str]) -> list[type[Actor[Any]]]:
    """Return the actors that `targets` name, in order and without duplicates.

    Args:
        targets: Packages or modules (``my_package``, ``my_package.orders``) and classes
            (``my_package.module:MyActor``). In a package, actors are looked for in modules named ``actor``; if those
            have none, in all of its modules.

    Raises:
        ConfigurationError: A target does not exist or has no actors.
        DeclarationError: A module cannot be imported.
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
        raise ConfigurationError(f"{target} is not an actor: an actor is a subclass of runtime.Actor with a name")
    return [value]


def _within(target: str) -> list[type[Actor[Any]]]:
    root = _import(target)
    modules = [root, *(_import(name) for name in _submodules(root) if name.rpartition(".")[2] == "actor")]
    found = list(_defined(modules))
    if not found:
        found = list(_defined([root, *map(_import, _submodules(root))]))
    if not found:
        raise ConfigurationError(f"{target} has no actors: name a package or module with actors, or module:Class")
    return found


def _submodules(module: ModuleType) -> Iterator[str]:
    for info in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{module.__name__}."):
        if info.ispkg:
            yield info.name
            yield from _submodules(_import(info.name))
        elif not info.name.endswith(".__main__"):
            yield info.name


def _defined(modules: list[ModuleType]) -> Iterator[type[Actor[Any]]]:
    """Yield the actors that the modules define, without imported ones."""
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
            raise ConfigurationError(f"no module {name!r}, not even in the working directory") from None
        raise DeclarationError(_failed(name, error)) from error
    except Exception as error:
        raise DeclarationError(_failed(name, error)) from error


def _failed(name: str, error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"cannot import {name}: {error.msg} ({error.filename}, line {error.lineno})"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    kind = "" if isinstance(error, DeclarationError) else f"{type(error).__name__}: "
    return f"cannot import {name}: {kind}{error} ({frame.filename}, line {frame.lineno})"
