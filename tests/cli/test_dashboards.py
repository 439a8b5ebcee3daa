"""`dashboards` as a real process: from code and from services that run, the same files."""

from pathlib import Path

from runtime.nats.server import EmbeddedServer
from tests.actors.shop import open_shop
from tests.contracts.test_dashboards import DEPLOY
from tests.support.process import run_command, run_here


def files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.glob("*/*")}


async def test_the_files_from_services_are_those_from_code(
    nats_server: EmbeddedServer, namespace: str, tmp_path: Path
) -> None:
    where = ("--nats", nats_server.url, "--namespace", namespace)
    async with open_shop(nats_server.url, namespace):
        ran = await run_command("dashboards", "--output", "running", *where, cwd=tmp_path)
    assert ran.code == 0 and ran.err.splitlines()[0] == "wrote running/grafana/_overview.json", ran
    ran = run_here("dashboards", "actorloom_shop", "--namespace", namespace, "--output", "code", cwd=tmp_path)
    assert ran.code == 0, ran
    assert files(tmp_path / "running") == files(tmp_path / "code")
    names = {*(f"grafana/{each.name}" for each in (DEPLOY / "grafana").iterdir())}
    assert names <= files(tmp_path / "code").keys()
    (tmp_path / "file").write_text("")
    ran = run_here("dashboards", "actorloom_shop", "--output", "file/x", cwd=tmp_path)
    assert (ran.code, ran.err) == (1, "Error: file/x/grafana: Not a directory\n")


def test_no_service_runs(nats_server: EmbeddedServer, namespace: str, tmp_path: Path) -> None:
    where = ("--nats", nats_server.url, "--namespace", namespace)
    ran = run_here("dashboards", "--output", "none", *where, cwd=tmp_path)
    text = f"Error: no service is running in namespace {namespace}: name a TARGET to read its code\n"
    assert (ran.code, ran.err) == (4, text)
