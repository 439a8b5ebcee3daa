"""JSON pointers (RFC 6901): the value to which a reference in a document leads."""

from typing import Any, cast


def resolve(document: Any, ref: str) -> Any:
    """Return the value that a reference into the same document names: ``#/components/schemas/Order``.

    Raises:
        LookupError: There is no such value.
    """
    value = document
    for token in ref.removeprefix("#").split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list):
            if not name.isdecimal():
                raise LookupError(ref)
            value = cast("list[Any]", value)[int(name)]
        elif isinstance(value, dict):
            value = cast("dict[str, Any]", value)[name]
        else:
            raise LookupError(ref)
    return value


def escaped(name: str) -> str:
    """Return a name as a part of a pointer."""
    return name.replace("~", "~0").replace("/", "~1")
