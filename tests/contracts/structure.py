"""Checks of the structure of documents, for the tests of them: faults as texts."""

import base64
import hashlib
from html.parser import HTMLParser
from typing import Any

from runtime.contracts.pointers import dangling
from runtime.wire.json_pointers import resolve


def openapi_faults(found: dict[str, Any]) -> list[str]:
    """Return the faults in the structure of an OpenAPI document."""
    texts = [str(each) for each in dangling(found)]
    seen: set[str] = set()
    for path, item in found["paths"].items():
        operation = item["post"]
        if operation["operationId"] in seen:
            texts.append(f"{path}: {operation['operationId']} is not unique")
        seen.add(operation["operationId"])
        for code, response in operation["responses"].items():
            target = resolve(found, response["$ref"]) if "$ref" in response else response
            if not target.get("description"):
                texts.append(f"{path} {code}: no description")
            if code != "default" and not 100 <= int(code) < 600:
                texts.append(f"{path}: {code} is no status")
    return texts


def page_faults(html: bytes) -> list[str]:
    """Return the faults of a page of contracts: broken links, elements that load something, a policy that does not fit."""
    found = Reader(html)
    texts = [f"two elements have the id {each}" for each in set(found.ids) if found.ids.count(each) > 1]
    texts += [f"no target of {each}" for each in sorted(found.links) if each.removeprefix("#") not in found.ids]
    texts += [f"an element {each}" for each in sorted(found.tags & {"link", "img", "iframe", "object"})]
    texts += [f"an attribute {each}" for each in sorted(found.attributes) if each == "src" or each.startswith("on")]
    for kind, blocks in found.blocks.items():
        digest = base64.b64encode(hashlib.sha256("".join(blocks).encode()).digest()).decode()
        if len(blocks) != 1 or f"{kind}-src 'sha256-{digest}'" not in found.policy:
            texts.append(f"{len(blocks)} blocks of {kind}, or another one than the policy permits")
    return texts


class Reader(HTMLParser):
    """Collects the ids, links, tags and attributes of a page, its style and script, and its text."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.blocks: dict[str, list[str]] = {"style": [], "script": []}
        self.policy = ""
        self.text = ""
        self.feed(html.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        self.attributes |= found.keys()
        if (ident := found.get("id")) is not None:
            self.ids.append(ident)
        if tag == "a":
            self.links.add(found["href"] or "")
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"] or ""

    def handle_data(self, data: str) -> None:
        tag = (self.get_starttag_text() or "").strip("<>")
        if tag in self.blocks and data.strip():
            self.blocks[tag].append(data)
        self.text += data
