"""`archives` on the command line: its refusals, and its output for scripts. tests/test_docs.py runs the commands of its page."""

import json
import shlex

import pytest

from runtime.nats.server import EmbeddedServer
from tests.support.process import ROOT, Completed, run_here


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("put x --actor 'a*'", 2, "--actor: 'a*' is not the name of an actor"),
        ("put x --actor ''", 2, "--actor: '' is not the name of an actor"),
        ("put x --actor shop.event", 2, "--actor: 'shop.event' is not the name of an actor"),
        ("put x --actor shop.event.paid", 2, "--actor: 'shop.event.paid' is not the name of an actor"),
        ("put x --type 'shop.*'", 2, "--type: 'shop.*' is not the type of an event"),
        ("put x --type 'shop.so ld'", 2, "--type: 'shop.so ld' is not the type of an event"),
        ("put x --subjects '*.event.paid'", 2, "name the actor"),
        (
            "put x --subjects shop.event.paid.a --subjects 'shop.event.*.*' --subjects shop.event.x.b",
            0,
            "x: is created",
        ),
        ("put x --subjects shop.event.paid --subjects 'shop.event.*.a'", 2, "overlap: write one subject for both"),
        ("put x --type paid", 2, "write service.name"),
        ("put x --keep 1y", 2, "write 30d or 12h, at least 1s, or forever"),
        ("put x --max-bytes 0", 2, "write a number of bytes, or 500M"),
        ("put a.b", 2, "use at most 100 letters, digits, dashes and underscores"),
        ("""put x --where '{"total": [1]}'""", 2, "a rule with this pattern whose target is the subject"),
        ("delete none --yes", 4, "there is no archive none"),
        ("ls", 0, "no archives"),
    ],
)
def test_a_refusal_names_the_field(
    line: str, code: int, text: str, nats_server: EmbeddedServer, namespace: str
) -> None:
    ran = archives(line, nats_server, namespace)
    assert ran.code == code
    assert text in ran.out + ran.err


def archives(line: str, nats_server: EmbeddedServer, namespace: str) -> Completed:
    where = ("--nats", nats_server.url, "--namespace", namespace)
    return run_here("archives", *shlex.split(line), *where, cwd=ROOT)


def test_archives_for_scripts(nats_server: EmbeddedServer, namespace: str) -> None:
    definition = {"name": "x", "events": ["shop.event.*.*"], "keep": 3600.0, "maxBytes": 2**30}
    put = "put x --actor shop --keep 1h --max-bytes 1G --json"
    changes = ["+ shop.event.*.*", "keep: 1h", f"max-bytes: {2**30}"]
    missing = [f"{namespace}-shop-events"]
    for created in (True, False):
        ran = archives(put, nats_server, namespace)
        expected = {"created": created, "changes": changes if created else [], "missing": missing}
        assert json.loads(ran.out) == {**definition, **expected}
    (found,) = json.loads(archives("ls --json", nats_server, namespace).out)
    empty = {"stream": f"{namespace}-archive-x", "messages": 0, "bytes": 0, "first": None, "last": None}
    assert found == {**definition, **empty}
    ran = archives("delete x --yes --json", nats_server, namespace)
    assert json.loads(ran.out) == found
