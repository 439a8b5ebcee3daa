"""`contracts`: documents from code without a server, and from the services that run."""

import json
from pathlib import Path

from runtime import testing
from runtime.nats.server import EmbeddedServer
from tests.support.documented import Basket, Depot
from tests.support.process import ROOT, run_command, run_here

TARGETS = ("tests.support.documented:Basket", "tests.support.documented:Depot")


async def test_a_document_from_code_is_that_of_the_running_services(
    nats_server: EmbeddedServer, namespace: str, tmp_path: Path
) -> None:
    page, file = tmp_path / "contracts.html", tmp_path / "asyncapi.json"
    place = ("--namespace", namespace)
    code = run_here(
        "contracts", "export", *TARGETS, "--format", "asyncapi", "--title", "Depots", "--server", "nats.example:4222",
        *place, cwd=ROOT,
    )  # fmt: skip
    assert (code.code, code.err) == (0, "")
    document = json.loads(code.out)
    assert document["info"]["title"] == "Depots"
    assert document["servers"]["nats"]["host"] == "nats.example:4222"
    assert document["channels"]["stockroom.query.find_items"]["address"] == f"{namespace}.stockroom.query.find_items"
    place = ("--nats", nats_server.url, *place)
    async with testing.running(Basket, Depot, url=nats_server.url, namespace=namespace):
        running = await run_command(
            "contracts", "export", "--format", "asyncapi", "--title", "Depots", "--server", "nats.example:4222",
            "--output", str(file), *place, cwd=tmp_path,
        )  # fmt: skip
        written = await run_command("contracts", "html", "--output", str(page), *place, cwd=tmp_path)
    assert (running.code, running.out, running.err) == (0, "", "")
    assert file.read_text() == code.out
    assert (written.code, written.out, written.err) == (0, "", "")
    assert "<title>Actors of " in page.read_text()


def test_bad_input_has_an_error_with_its_name(nats_server: EmbeddedServer, namespace: str, tmp_path: Path) -> None:
    wrong = (
        (("export", "absent_module", "--format", "json"), 2, "no module 'absent_module'"),
        (("export", "--format", "yaml"), 2, "'yaml' is not one of"),
        (("export", "--format", "asyncapi", "--server", "nats://a"), 2, "'nats://a': write HOST:PORT"),
        (("html", TARGETS[0], "--output", "absent/page.html"), 1, "Error: absent/page.html: No such file or directory"),
        (("export", "--format", "asyncapi", "--server", "a b"), 2, "'a b': write HOST:PORT"),
        (
            ("export", "--format", "json", "--nats", nats_server.url, "--namespace", namespace),
            4,
            f"no service is running in namespace {namespace}: name a TARGET to read its code",
        ),
    )
    for arguments, exit_code, text in wrong:
        place = ROOT if TARGETS[0] in arguments else tmp_path
        done = run_here("contracts", *arguments, cwd=place)
        assert (done.code, done.out) == (exit_code, ""), done.err
        assert text in done.err
