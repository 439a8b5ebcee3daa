"""The schemas of a document: each definition once, under a name of its own, with references to it.

The schema of a message is complete in itself and has its definitions in ``$defs``. In a document, ``#`` is the whole document, so
the definitions move to one place of it. Two actors may use one name for different types.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import msgspec

from runtime.admin.discovery import Service
from runtime.contracts.keywords import mapped, schemas_in
from runtime.contracts.subjects import safe
from runtime.wire.schemas import Schema

DEFS: Final = "#/$defs/"
"""The beginning of the references in the schema of one message."""


class Components:
    """Names the definitions of all schemas of a document.

    A definition has the name of its type: ``Address``. If schemas have different definitions of that name, each has that of
    its service before it: ``orders.Address``. If one service has several, the name ends with a hash of the content. No name depends
    on the order of the schemas.

    Args:
        schemas: The schemas of the document, each with the name of its service.
        at: The beginning of the references in the document: ``#/components/schemas/``.
        draft_07: Whether the schemas are to be valid in JSON Schema draft 07 as well.
    """

    def __init__(self, schemas: list[tuple[str, Schema]], at: str, draft_07: bool = False) -> None:
        self._at = at
        self._draft_07 = draft_07
        self._names = _names([(owner, each) for owner, each in schemas])
        self.schemas: dict[str, Schema] = {}
        """The definitions by name, sorted."""
        for owner, each in schemas:
            definitions = definitions_of(each)
            for name, definition in definitions.items():
                named = self._name(owner, name, definitions)
                self.schemas[named] = self._placed(owner, definition, definitions)
        self.schemas = dict(sorted(self.schemas.items()))

    def use(self, owner: str, schema: Schema) -> Schema:
        """Return the form of one of the schemas in the document: without definitions, and with references to those above."""
        definitions = definitions_of(schema)
        return self._placed(owner, {name: each for name, each in schema.items() if name != "$defs"}, definitions)

    def _name(self, owner: str, name: str, definitions: Mapping[str, Schema]) -> str:
        return self._names[owner, safe(name), digest(name, definitions)]

    def _placed(self, owner: str, schema: Any, definitions: Mapping[str, Schema]) -> Any:
        if not isinstance(schema, dict):
            return schema

        def place(value: Any) -> Any:
            return self._placed(owner, value, definitions)

        placed = {name: mapped(name, each, place) for name, each in cast("Schema", schema).items()}
        if isinstance(ref := placed.get("$ref"), str) and ref.removeprefix(DEFS) in definitions:
            placed["$ref"] = self._at + self._name(owner, ref.removeprefix(DEFS), definitions)
        return _as_draft_07(placed) if self._draft_07 else placed


def schemas_of(services: list[Service]) -> list[tuple[str, Schema]]:
    """Return all schemas of services, each with the name of its service."""
    found = [
        (service.name, each)
        for service in services
        for endpoint in service.endpoints
        for each in (endpoint.metadata.request, endpoint.metadata.response)
    ]
    found += [(service.name, each) for service in services for each in service.metadata.emits.values()]
    return [(owner, each) for owner, each in found if each is not None]


def definitions_of(schema: Any) -> dict[str, Schema]:
    """Return the definitions of the schema of one message, by name."""
    found = cast("Schema", schema).get("$defs") if isinstance(schema, dict) else None
    return cast("dict[str, Schema]", found) if isinstance(found, dict) else {}


def digest(name: str, definitions: Mapping[str, Schema]) -> str:
    """Return a hash of a definition, together with the definitions that it refers to."""
    reached: dict[str, Schema] = {}
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each in definitions and each not in reached:
            reached[each] = definitions[each]
            waiting += (ref.removeprefix(DEFS) for ref in references(definitions[each]))
    return hashlib.sha256(msgspec.json.encode([name, sorted(reached.items())], order="sorted")).hexdigest()[:8]


def references(schema: Any) -> Iterator[str]:
    """Yield the ``$ref`` of a schema and of those in it."""
    if isinstance(schema, dict):
        found = cast("Schema", schema)
        if isinstance(ref := found.get("$ref"), str):
            yield ref
        for name, value in found.items():
            for each in schemas_in(name, value):
                yield from references(each)


def _names(schemas: list[tuple[str, Schema]]) -> dict[tuple[str, str, str], str]:
    """Return the name of each definition, by service, name and hash."""
    kinds = {
        (owner, safe(name), digest(name, definitions))
        for owner, each in schemas
        for definitions in (definitions_of(each),)
        for name in definitions
    }
    of_name: dict[str, set[str]] = defaultdict(set)
    of_owner: dict[tuple[str, str], set[str]] = defaultdict(set)
    for owner, name, content in kinds:
        of_name[name].add(content)
        of_owner[owner, name].add(content)

    def chosen(owner: str, name: str, content: str) -> str:
        if len(of_name[name]) == 1:
            return name
        own = f"{safe(owner)}.{name}"
        return own if len(of_owner[owner, name]) == 1 and own not in of_name else f"{own}.{content}"

    return {each: chosen(*each) for each in kinds}


def _as_draft_07(schema: Schema) -> Schema:
    """Return a schema of 2020-12 in the words of draft 07, which ignores the keywords beside a ``$ref``."""
    schema = dict(schema)
    if (items := schema.pop("prefixItems", None)) is not None:
        if "items" in schema:
            schema["additionalItems"] = schema.pop("items")
        schema["items"] = items
    if "$ref" in schema and len(schema) > 1:
        return {"allOf": [{"$ref": schema.pop("$ref")}, schema]}
    return schema
