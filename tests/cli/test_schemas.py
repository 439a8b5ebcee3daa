"""`schemas` and `contracts check`, against an actor that has started with two versions."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime import Actor, Query, query
from runtime.nats.server import EmbeddedServer
from runtime.testing import running
from tests.support.process import Completed, run_command, run_here

CODE = """
import msgspec
from runtime import Actor, Query, query


class Ware(msgspec.Struct, frozen=True):
    name: str
    {field}: str{default}


class GetWare(Query[Ware], actor="wares", key="name"):
    name: str


class Wares(Actor[Ware]):
    name = "wares"

    @query
    async def get(self, message: GetWare) -> Ware:
        return self.state or Ware(message.name)
"""


def version(**fields: Any) -> type[Actor[Any]]:
    """Return the actor with further fields of its state, which is its reply too."""
    ware: Any = msgspec.defstruct("Ware", [("name", str), *((name, str, fields[name]) for name in fields)], frozen=True)

    class GetWare(Query[ware], actor="wares", key="name"):
        name: str

    class Wares(Actor[ware]):
        name = "wares"

        @query
        async def get(self, message: GetWare) -> ware:  # pyright: ignore
            return self.state or ware(message.name)

    return Wares


class Shown:
    """The command line beside the registry."""

    def __init__(self, home: Path, *where: str) -> None:
        self.home = home
        self.where = where

    def __call__(self, *line: str) -> Completed:
        return run_here(*line, *self.where, cwd=self.home)


@pytest.fixture
async def shown(nats_server: EmbeddedServer, namespace: str, tmp_path: Path) -> Shown:
    for actor in (version(), version(note="")):
        async with running(actor, url=nats_server.url, namespace=namespace):
            pass
    return Shown(tmp_path, "--nats", nats_server.url, "--namespace", namespace)


def test_registered_schemas_are_listed_shown_and_compared(shown: Shown) -> None:
    ran = shown("schemas", "ls")
    assert ran.code == 0, ran
    head, *lines = ran.out.splitlines()
    assert head.split() == ["TYPE", "KIND", "VERSION", "VERSIONS", "REGISTERED", "BY", "VERSION"]
    assert [(line.split()[0], line.split()[1], line.split()[3]) for line in lines] == [
        ("wares.GetWare", "query", "1"),
        ("wares.GetWare.reply", "reply", "2"),
        ("wares.state.1", "state", "2"),
    ]
    ran = shown("schemas", "history", "wares.state.1", "--json")
    first, second = json.loads(ran.out)
    assert (first["until"], second["until"]) == (second["registered"], None)
    assert re.fullmatch("[0-9a-f]{12}", first["version"]) and first["actorVersion"] == "0.1.0"
    ran = shown("schemas", "show", "wares.state.1", "--version", first["version"][:6])
    assert list(json.loads(ran.out)["$defs"]["Ware"]["properties"]) == ["name"]
    ran = shown("schemas", "diff", "wares.state.1")
    assert '+        "note": {' in ran.out.splitlines()
    assert ran.err == "nothing breaks: each version reads values of the other\n"
    ran = shown("schemas", "diff", "wares.state.1", second["version"], first["version"], "--json")
    assert json.loads(ran.out)["breaks"] == {"newReadsOld": [], "oldReadsNew": []}


def test_what_is_not_registered(shown: Shown) -> None:
    refused = [
        (("ls", "nobody"), 4, "nobody has registered no schemas"),
        (("show", "wares.GetWares"), 4, "wares.GetWares is not registered: did you mean wares.GetWare?"),
        (("show", "wares.GetWare", "--version", "0x"), 4, "wares.GetWare has no version 0x"),
        (("diff", "wares.GetWare"), 4, "wares.GetWare has one version only"),
        (("history", "wares"), 2, "'wares': write a type"),
    ]
    for line, code, text in refused:
        ran = shown("schemas", *line)
        assert (ran.code, ran.out) == (code, "") and text in ran.err, ran


def test_code_is_checked_against_the_registry_and_a_file(shown: Shown) -> None:
    for name, default in (("note", ' = ""'), ("price", "")):
        (shown.home / f"shelf_with_{name}.py").write_text(CODE.format(field=name, default=default))
    exported = run_here("contracts", "export", "--format", "json", "shelf_with_note.py", cwd=shown.home)
    (shown.home / "before.json").write_text(exported.out)
    ran = shown("contracts", "check", "shelf_with_note.py")
    assert (ran.code, ran.out, ran.err) == (0, "nothing breaks\n", ""), ran
    ran = shown("contracts", "check", "shelf_with_price.py")
    assert ran.code == 1
    assert re.search(
        r"wares\.state\.1: stored states of version \w{12} \(0\.1\.0, registered .* by .*\) cannot", ran.out
    )
    assert "\n  price was absent, is required (field-required)\n" in ran.out
    assert ran.err.endswith("Error: the contract breaks others: wares.GetWare.reply, wares.state.1\n")
    ran = shown("contracts", "check", "shelf_with_price.py", "--against", "before.json", "--json")
    (found,) = json.loads(ran.out)
    assert (ran.code, found["type"], found["registered"]) == (1, "wares.GetWare.reply", None)
    assert ran.err.startswith("states are not compared: a file has none, and the registry has those that are stored\n")
    assert found["breaks"] == [{"field": "price", "kind": "field-required", "old": "absent", "new": "required"}]
    ran = shown("contracts", "check", "shelf_with_price.py", "--against", "shelf_with_price.py")
    assert (ran.code, ran.out) == (2, "") and "shelf_with_price.py: not contracts in JSON" in ran.err


async def test_a_breaking_start_ends_with_its_reasons(shown: Shown) -> None:
    (shown.home / "shelf.py").write_text(CODE.format(field="price", default=""))
    ran = await run_command("run", "shelf.py", *shown.where, cwd=shown.home)
    assert ran.code == 2
    assert "allow it by --allow-breaking, or allow_breaking = true" in ran.err
    assert "price was absent, is required (field-required)" in ran.err
