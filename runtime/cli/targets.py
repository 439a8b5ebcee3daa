"""Targets of `run`: finds actor types in packages and modules."""

import os
import pkgutil
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from runtime.actor.base import Actor
from runtime.errors import ConfigurationError, DeclarationError

_LIBRARY = str(Path(__file__).parents[1])


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
        _import_from_here(name.partition(".")[0])
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigurationError(f"no module {name!r}, not even in the working directory") from None
        raise DeclarationError(_failed(name, error)) from error
    except Exception as error:
        raise DeclarationError(_failed(name, error)) from error


def _import_from_here(name: str) -> None:
    """Import a top-level module or package of the working directory, if there is one.

    Python itself prefers an installed package to a directory without ``__init__.py``, wherever the directory is.

    Raises:
        ConfigurationError: Python has a module of that name, or one from elsewhere is imported already.
    """
    here = os.getcwd()
    spec = PathFinder.find_spec(name, [here])
    if spec is None:
        return
    file = spec.origin or os.path.join(here, name)
    if name in sys.stdlib_module_names:
        raise ConfigurationError(f"{file} cannot be a target: Python has a module {name}; rename the file")
    loaded = sys.modules.get(name)
    if loaded is None:
        loaded = sys.modules[name] = module_from_spec(spec)
        if spec.loader is not None:
            try:
                spec.loader.exec_module(loaded)
            except BaseException:
                sys.modules.pop(name, None)
                raise
        return
    if not any(_same(place, here) for place in _places(loaded)):
        file = spec.origin or os.path.join(here, name)
        raise ConfigurationError(
            f"{file} cannot be a target: Actorloom has imported {_place_of(loaded)}; rename the file"
        )


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
    if isinstance(error, SyntaxError):
        return f"cannot import {name}: {error.msg} ({error.filename}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if not _installed(frame.filename)), frames[-1])
    kind = "" if isinstance(error, DeclarationError) else f"{type(error).__name__}: "
    return f"cannot import {name}: {kind}{error} ({frame.filename}, line {frame.lineno})"


def _installed(file: str) -> bool:
    """Whether the file is part of Python, of an installed package or of this library, and not of the application."""
    return file.startswith("<") or os.path.realpath(file).startswith(_LIBRARIES)


_LIBRARIES = tuple(
    os.path.realpath(place) + os.sep
    for place in (*(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")), _LIBRARY)
)
"""The directories of Python, of installed packages and of this library."""
