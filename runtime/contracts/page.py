"""Contracts as one HTML page that needs no network: services, operations, events, reactions, streams and types.

Every text from a service is escaped, since anybody on NATS may announce one. The page permits its own style and script only,
by their hashes in a content security policy.
"""

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from typing import Final

import msgspec

from runtime.actor.error_kinds import ErrorKind
from runtime.actor.metadata import EventMetadata, Reaction
from runtime.admin.discovery import Endpoint, Service
from runtime.contracts.components import Components, references, schemas_of
from runtime.contracts.page_types import AT, fields_html, text_html, type_html
from runtime.contracts.plain import by_subject
from runtime.contracts.subjects import event_id, operation_id, reaction_id, safe
from runtime.contracts.title import Title
from runtime.wire.schemas import Schema

_KINDS: Final = {"query": 0, "command": 1}


def page(services: list[Service], title: Title) -> bytes:
    """Return the page of services of one namespace, in UTF-8.

    Args:
        services: The services, one of each name, in any order.
        title: The title and version of the page.
    """
    return _Page(sorted(services, key=lambda each: each.name)).html(title).encode("utf-8", "backslashreplace")


class _Page:
    def __init__(self, services: list[Service]) -> None:
        self._services = services
        self._types = Components(schemas_of(services), AT)
        self._emitted = {
            name: _event_anchor(service, name) for service in services for name in sorted(service.metadata.emits)
        }

    def html(self, title: Title) -> str:
        style, script = (
            files("runtime.contracts").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js")
        )
        policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'"
        listed = self._listed()
        sections = [*map(self._service, self._services), self._common_errors(), self._type_section(listed)]
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(title.title)}</title>\n<style>{style}</style></head>\n<body>\n{self._nav(listed)}\n<main>"
            f'<h1>{escape(title.title)}</h1><p class="soft">{escape(title.description)}</p>\n'
            f"{''.join(sections)}</main>\n<script>{script}</script>\n</body></html>\n"
        )

    def _nav(self, listed: list[str]) -> str:
        groups: list[str] = []
        for service in self._services:
            links = [(operation_id(service, each), each.name, each.metadata.op) for each in _operations(service)]
            links += [
                (_event_anchor(service, name), _short(service, name), "event")
                for name in sorted(service.metadata.emits)
            ]
            links += [
                (reaction_id(service.name, each), each.reaction or each.event, "react")
                for each in service.metadata.reacts
            ]
            groups.append(_group(service.name, safe(service.name), links))
        groups.append(_group("Types", "_types", [(f"{AT[1:]}{name}", name, "") for name in listed]))
        box = '<input id="_search" type="search" placeholder="Search" aria-label="Search" hidden>'
        return f"<nav>{box}{''.join(groups)}</nav>"

    def _service(self, service: Service) -> str:
        metadata = service.metadata
        facts = [("version", escape(service.version))]
        facts += [("namespace", escape(metadata.namespace))] if metadata.namespace else []
        facts += [
            (f"stream of {escape(what)}", f"<code>{escape(name)}</code>")
            for what, name in sorted(metadata.streams.items())
        ]
        parts = [self._operation(service, each) for each in _operations(service)]
        parts += [self._event(service, name) for name in sorted(metadata.emits)]
        parts += [self._reaction(service, each) for each in metadata.reacts]
        return (
            f'<section><h2 id="{escape(safe(service.name))}">{escape(service.name)}</h2>'
            f"<p>{text_html(service.description)}</p>{_facts(facts)}{''.join(parts)}</section>\n"
        )

    def _operation(self, service: Service, endpoint: Endpoint) -> str:
        metadata = endpoint.metadata
        request, response = metadata.request, metadata.response
        parts = [
            f"<p>{text_html(metadata.description)}</p>",
            _facts([("subject", f"<code>{escape(endpoint.subject)}</code>")]),
        ]
        parts.append(f"<h4>Request</h4>{self._fields(service, request, metadata.key)}" if request is not None else "")
        if response is not None:
            reply = "empty" if response == {"type": "null"} else type_html(self._types.use(service.name, response))
            parts.append(f'<h4>Reply</h4><p class="type">{reply}</p>')
        parts.append(f"<h4>Errors</h4>{_errors(metadata.errors)}" if metadata.errors else "")
        return _article(operation_id(service, endpoint), metadata.op, endpoint.name, parts)

    def _event(self, service: Service, type_name: str) -> str:
        event = service.metadata.events.get(type_name, EventMetadata("", ""))
        readers = [
            f'<a href="#{escape(reaction_id(other.name, each))}">{escape(other.name)}: {escape(each.reaction or each.method)}</a>'
            for other in self._services
            for each in other.metadata.reacts
            if each.takes(type_name) and (other is not service or each.name != "*")
        ]
        facts = [
            (name, f"<code>{escape(text)}</code>")
            for name, text in (("subject", event.subject), ("stream", event.stream), ("in the stream", event.filter))
            if text
        ]
        facts.append(("readers", ", ".join(readers) or "none of these services"))
        schema = service.metadata.emits[type_name]
        parts = [f"<p>{text_html(event.description)}</p>", _facts(facts), self._fields(service, schema, event.key)]
        return _article(_event_anchor(service, type_name), "event", _short(service, type_name), parts)

    def _reaction(self, service: Service, reaction: Reaction) -> str:
        anchor = self._emitted.get(reaction.event)
        event = escape(reaction.event)
        facts = [("event", f'<a href="#{escape(anchor)}">{event}</a>' if anchor else event)]
        if reaction.where is not None:
            facts.append(("where", f"<code>{escape(msgspec.json.encode(reaction.where).decode())}</code>"))
        if reaction.stream:
            facts.append(("stream", f"<code>{escape(reaction.stream)}</code>"))
        parts = [f"<p>{text_html(reaction.description)}</p>", _facts(facts)]
        return _article(reaction_id(service.name, reaction), "react", reaction.reaction or reaction.event, parts)

    def _fields(self, service: Service, schema: Schema, key: str) -> str:
        """Return the fields of a message: those of the type to which its schema refers."""
        placed = self._types.use(service.name, schema)
        found = self._types.schemas.get(str(placed.get("$ref", "")).removeprefix(AT), placed)
        return fields_html(found, key)

    def _listed(self) -> list[str]:
        """Return the names of the types that a type or a reply refers to. The others are messages. Their operations and events have their fields."""
        used = [ref for each in self._types.schemas.values() for ref in references(each)]
        for service in self._services:
            for endpoint in service.endpoints:
                used += references(self._types.use(service.name, endpoint.metadata.response or {}))
        return sorted({ref.removeprefix(AT) for ref in used} & self._types.schemas.keys())

    def _type_section(self, listed: list[str]) -> str:
        parts: list[str] = []
        for name in listed:
            schema = self._types.schemas[name]
            text = text_html(str(schema.get("description", "")))
            parts.append(_article(f"{AT[1:]}{name}", "", name, [f"<p>{text}</p>", fields_html(schema)]))
        return f'<section><h2 id="_types">Types</h2>{"".join(parts)}</section>\n' if parts else ""

    def _common_errors(self) -> str:
        kinds = [each for service in self._services for each in service.metadata.errors]
        if not kinds:
            return ""
        return (
            f'<section><h2 id="_errors">Errors of every operation</h2><article>{_errors(kinds)}</article></section>\n'
        )


def _article(anchor: str, kind: str, name: str, parts: Iterable[str]) -> str:
    mark = f'<span class="kind {kind}">{kind}</span>' if kind in ("query", "command", "event", "react") else ""
    heading = f'<h3>{mark}<a href="#{escape(anchor)}">{escape(name)}</a></h3>'
    body = "".join(part for part in parts if part != "<p></p>")
    return f'<article id="{escape(anchor)}">{heading}{body}</article>\n'


def _group(name: str, anchor: str, links: list[tuple[str, str, str]]) -> str:
    if not links:
        return ""
    items = "".join(
        f'<li><a class="{escape(kind)}" href="#{escape(place)}">{escape(text)}</a></li>' for place, text, kind in links
    )
    heading = f'<a href="#{escape(anchor)}">{escape(name)}</a>'
    return f"<details{'' if name == 'Types' else ' open'}><summary>{heading}</summary><ul>{items}</ul></details>"


def _facts(facts: list[tuple[str, str]]) -> str:
    """Return names with values in HTML as a list."""
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in facts)}</dl>"


def _errors(kinds: list[ErrorKind]) -> str:
    unique = sorted({(each.code, each.kind, each.description) for each in kinds})
    items = (f"<li><code>{code} {escape(kind)}</code> {text_html(text)}</li>" for code, kind, text in unique)
    return f'<ul class="errors">{"".join(items)}</ul>'


def _operations(service: Service) -> list[Endpoint]:
    """Return the endpoints of a service: queries, commands, and those of other frameworks."""
    return sorted(by_subject(service), key=lambda each: _KINDS.get(each.metadata.op, len(_KINDS)))


def _event_anchor(service: Service, type_name: str) -> str:
    event = service.metadata.events.get(type_name)
    return event_id(service.name, event.subject if event is not None else "", type_name)


def _short(service: Service, type_name: str) -> str:
    return type_name.removeprefix(f"{service.name}.")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
