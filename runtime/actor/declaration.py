"""The checks of what the class of an actor declares, beside its handlers: each attribute has the type that it must have.

They run when the class is created, so that a mistake is reported with the line of the class, and not when the actor starts.
"""

import inspect
from typing import Any

from runtime.actor.indexes import Index
from runtime.actor.message import reserved_name
from runtime.bounds import Count, fault
from runtime.errors import DeclarationError
from runtime.options import Options
from runtime.wire.subjects import KINDS, valid_name, valid_version


def check_attributes(cls: Any) -> None:
    """Check the attributes of the class of an actor.

    Raises:
        DeclarationError: One of them has a wrong type or value. The text names it.
    """
    label, name = cls.__name__, cls.name
    if not isinstance(name, str) or not valid_name(name):
        raise DeclarationError(
            f"{label}.name = {name!r} is not a valid name: use lower-case letters, digits, '-' and '_', with a letter first"
        )
    if name in KINDS:
        raise reserved_name(f"{label}.name = {name!r}")
    if not isinstance(cls.version, str) or not valid_version(cls.version):
        raise DeclarationError(f"{label}.version = {cls.version!r} is not a semantic version, such as '1.2.3'")
    if not isinstance(cls.options, Options):
        raise DeclarationError(f"{label}.options = {cls.options!r} is not an Options(…)")
    if (reason := fault(cls.state_version, Count)) is not None:
        raise DeclarationError(f"{label}.state_version = {cls.state_version!r}: {reason}")
    if not _are_upgrades(cls.upgrades):
        raise DeclarationError(
            f"{label}.upgrades = {cls.upgrades!r} is not a dict from earlier state versions to functions: {{1: to_2}}"
        )
    for hook, parameters in (("on_start", ()), ("on_stop", ()), ("on_message", ("message", "handle"))):
        function = getattr(cls, hook)
        if not inspect.iscoroutinefunction(function):
            raise DeclarationError(f"{label}.{hook} must be a coroutine function: use async def")
        try:
            inspect.signature(function, follow_wrapped=False).bind(cls, *parameters)
        except TypeError:
            wanted = ", ".join(("self", *parameters))
            raise DeclarationError(f"{label}.{hook} must have the parameters ({wanted})") from None
    _check_constructor(label, cls.__init__)


def check_index_list(label: str, indexes: Any) -> None:
    """Check the type of `indexes=` in a class line. Raises `DeclarationError`."""
    if not isinstance(indexes, list | tuple) or not all(isinstance(each, Index) for each in indexes):
        raise DeclarationError(f"{label}: indexes={indexes!r} is not a list of Index(…)")
    for each in indexes:
        named = each.field if isinstance(each.field, tuple) else () if each.field is None else (each.field,)
        texts = {name for name in named if isinstance(name, str)}
        if len(texts) < len(named) or each.field == ():
            raise DeclarationError(f"{label}: {each!r}: a filter is the name of a field, or a tuple of different names")


def _are_upgrades(upgrades: Any) -> bool:
    return isinstance(upgrades, dict) and all(
        fault(version, Count) is None and callable(upgrade) for version, upgrade in upgrades.items()
    )


def _check_constructor(label: str, constructor: Any) -> None:
    """Raise `DeclarationError` if a constructor needs arguments, which the runtime does not have."""
    if constructor is object.__init__:
        return
    for parameter in list(inspect.signature(constructor).parameters.values())[1:]:
        optional = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.default is parameter.empty and not optional:
            raise DeclarationError(
                f"{label}.__init__ must need no arguments, and has the parameter {parameter.name!r}: "
                "acquire the resources of the service in on_start"
            )
