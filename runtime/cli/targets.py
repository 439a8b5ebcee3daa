"""Targets of `run`: finds actor types in packages and modules."""

import os
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any

from runtime.actor.base import Actor, is_unnamed_actor, require_actor
from runtime.actor.raised_at import raised_at
from runtime.errors import ConfigurationError, DeclarationError


def find_actors(targets: Iterable[str]) -> list[type[Actor[Any]]]:
    """Return the actors that `targets` name, in order and without duplicates.

    Args:
        targets: Packages or modules (``my_package``, ``my_package.orders``, or the path of their file or directory) and
            classes (``my_package.module:MyActor``). In a package, actors are looked for in modules named ``actor``; if those
            have none, in all of its modules.

    Raises:
        ConfigurationError: A target does not exist or has no actors.
        DeclarationError: A module cannot be imported.
    """
    found: dict[type[Actor[Any]], None] = {}
    for target in map(_dotted, targets):
        found |= dict.fromkeys(_named(target) if ":" in target else _within(target))
    return list(found)


def import_targets(targets: Iterable[str]) -> None:
    """Import the modules that `targets` name, in the forms of `find_actors`: of a package all modules, with actors or not.

    Raises:
        ConfigurationError: A target does not exist.
        DeclarationError: A module cannot be imported.
    """
    for target in map(_dotted, targets):
        for name in _submodules(_import(target.partition(":")[0])):
            _import(name)


def _dotted(target: str) -> str:
    """Return a target with the dotted name of its module, if it has the path of a file or directory instead."""
    path, colon, name = target.partition(":")
    if "/" not in path and not path.endswith(".py"):
        if not path or path.startswith("."):
            raise ConfigurationError(
                f"{target!r} is no target: write my_package, orders.py or my_package.module:MyActor"
            )
        return target
    here = os.getcwd()
    relative = os.path.relpath(os.path.join(here, path), here)
    if not os.path.exists(relative):
        raise ConfigurationError(f"no file {path!r}")
    parts = relative.removesuffix(".py").removesuffix("/__init__").split(os.sep)
    if not all(part.isidentifier() for part in parts):
        raise ConfigurationError(f"{path} is not a module below the working directory: run the command where it is one")
    return ".".join(parts) + colon + name


def _named(target: str) -> list[type[Actor[Any]]]:
    module_name, _, name = target.partition(":")
    value = getattr(_import(module_name), name, None)
    if value is None:
        raise ConfigurationError(f"{module_name} has no {name!r}")
    if not isinstance(value, type) or not issubclass(value, Actor):
        raise ConfigurationError(f"{target} is not an actor: an actor is a subclass of runtime.Actor with a name")
    require_actor(value, target)
    return [value]


def _within(target: str) -> list[type[Actor[Any]]]:
    root = _import(target)
    modules = [root, *(_import(name) for name in _submodules(root) if name.rpartition(".")[2] == "actor")]
    found = list(_defined(modules))
    if not found:
        modules = [root, *map(_import, _submodules(root))]
        found = list(_defined(modules))
    _check_names(modules)
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


def _check_names(modules: list[ModuleType]) -> None:
    """Raise `DeclarationError` if a class that the modules define has handlers, but neither a name nor a named subclass."""
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__ and is_unnamed_actor(value):
                require_actor(value, f"{module.__name__}:{value.__name__}")


def _is_actor(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Actor) and "handlers" in vars(value)


def _import(name: str) -> ModuleType:
    spec = _find_here(name.partition(".")[0])
    try:
        if spec is not None:
            _load(spec)
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigurationError(f"no module {name!r}, not even in the working directory") from None
        raise DeclarationError(_failed(name, error)) from error
    except Exception as error:
        raise DeclarationError(_failed(name, error)) from error


def _find_here(name: str) -> ModuleSpec | None:
    """Return the spec of a top-level module or package of the working directory; None if there is none, or it is loaded.

    Python itself prefers an installed package to a directory without ``__init__.py``, wherever the directory is.

    Raises:
        ConfigurationError: Python has a module of that name, or one from elsewhere is imported already.
    """
    here = os.getcwd()
    spec = PathFinder.find_spec(name, [here])
    if spec is None:
        return None
    file = spec.origin or os.path.join(here, name)
    if name in sys.stdlib_module_names:
        raise ConfigurationError(f"{file} cannot be a target: Python has a module {name}; rename the file")
    loaded = sys.modules.get(name)
    if loaded is None:
        return spec
    if not any(_same(place, here) for place in _places(loaded)):
        raise ConfigurationError(
            f"{file} cannot be a target: Actorloom has imported {_place_of(loaded)}; rename the file"
        )
    return None


def _load(spec: ModuleSpec) -> None:
    loaded = sys.modules[spec.name] = module_from_spec(spec)
    if spec.loader is not None:
        try:
            spec.loader.exec_module(loaded)
        except BaseException:
            sys.modules.pop(spec.name, None)
            raise


def _places(module: ModuleType) -> Iterator[str]:
    """Yield the directories that have the module or package."""
    if hasattr(module, "__path__"):
        yield from (os.path.dirname(path) for path in module.__path__)
    elif module.__file__ is not None:
        yield os.path.dirname(module.__file__)


def _same(place: str, here: str) -> bool:
    return os.path.realpath(place) == os.path.realpath(here)


def _place_of(module: ModuleType) -> str:
    return f"{module.__name__} of {next(_places(module), 'Python')}"


def _failed(name: str, error: Exception) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    kind = "" if isinstance(error, SyntaxError | DeclarationError) else f"{type(error).__name__}: "
    return f"cannot import {name}: {kind}{text} ({raised_at(error)})"
