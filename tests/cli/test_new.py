"""`actorloom new`: the project that it writes runs, and a name or directory that it cannot have is refused before it writes.

tests/test_packaging.py checks, tests and builds a project that the wheel has written.
"""

import re
from pathlib import Path

import pytest

from runtime.nats.server import EmbeddedServer
from tests.support.process import ROOT, run_command, running_command
from tests.support.shell import steps

FILES = {
    ".gitignore", "Dockerfile", "README.md", "actorloom.toml", "compose.yaml", "library/__init__.py", "library/books.py",
    "library/messages.py", "pyproject.toml", "tests/test_books.py",
}  # fmt: skip


async def new(name: str, into: Path) -> dict[str, str]:
    """Write a project in an empty directory, and return the texts of its files by their paths."""
    done = await run_command("new", name, cwd=into)
    assert (done.code, done.err) == (0, ""), done
    project = into / name
    return {str(path.relative_to(project)): path.read_text() for path in project.rglob("*") if path.is_file()}


async def test_the_actor_is_that_of_the_tutorial(tmp_path: Path) -> None:
    written = await new("library", tmp_path)
    assert set(written) == FILES
    shown: dict[str | None, str] = {}
    for step in steps(ROOT / "docs" / "tutorial.md"):
        shown.setdefault(step.path, step.text)
    assert written["library/books.py"] == shown["library/books.py"]
    assert shown["library/messages.py"].startswith(written["library/messages.py"] + "\n\nclass Reader(")


async def test_a_project_runs_and_its_printed_commands_get_their_replies(
    nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    done = await run_command("new", "my-shop", cwd=tmp_path)
    run, send, pytest_command = re.findall(r"(?m)^  (\S.*?)(?:   .*)?$", done.out)
    assert pytest_command == "python -m pytest"
    project, env = tmp_path / "my-shop", {"NATS_URL": nats_server.url, "ACTORLOOM_NAMESPACE": "new"}
    async with running_command(*run.split()[1:], "--log-format", "text", cwd=project, env=env) as process:
        assert "ready: books on" in await process.until("ready:")
        sent = await run_command(*send.split()[1:], cwd=project, env=env)
        assert (sent.code, sent.out) == (0, '{"title":"Emma","copies":2,"lent":0}\n'), sent
        assert await process.stop() == 0


async def test_the_containers_have_the_images_of_the_repository_and_files_that_exist(tmp_path: Path) -> None:
    written = await new("my-shop", tmp_path)

    def images(compose: str, dockerfile: str) -> set[str]:
        return {*re.findall(r"(?m)^ +image: (\S+)$", compose), *re.findall(r"(?m)^FROM (\S+)", dockerfile)}

    ours = images(*((ROOT / name).read_text() for name in ("compose.yaml", "Dockerfile")))
    assert images(written["compose.yaml"], written["Dockerfile"]) == ours and len(ours) == 3
    copied = re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", written["Dockerfile"])
    names = {name.rstrip("/") for names in copied for name in names.split() if "*" not in name}
    assert names and names <= {name.split("/")[0] for name in written}
    assert 'CMD ["run", "my_shop"]' in written["Dockerfile"]


async def test_the_tools_have_the_versions_of_the_repository(tmp_path: Path) -> None:
    written = await new("shop", tmp_path)
    ours = set(re.findall(r'"([a-z-]+[<>=][^"]*)"', (ROOT / "pyproject.toml").read_text()))
    theirs = set(re.findall(r'"([a-z-]+[<>=][^"]*)"', written["pyproject.toml"])) - {"actorloom>=0.1,<0.2"}
    assert {"hatchling>=1.27,<2", "pytest>=9,<10"} < theirs <= ours
    assert '\nversion = "0.1.' in (ROOT / "pyproject.toml").read_text(), "the project needs another range of actorloom"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Shop", "'Shop': write a name of lower-case letters"),
        ("3d", "'3d': write a name of lower-case letters"),
        ("shop-", "'shop-': write a name of lower-case letters"),
        ("_shop", "'_shop': write a name of lower-case letters"),
        ("../shop", "'../shop': write a name of lower-case letters"),
        (".", "'.': write a name of lower-case letters"),
        ("lädchen", "'lädchen': write a name of lower-case letters"),
        ("shop\n", "write a name of lower-case letters"),
        ("class", "'class' is a keyword"),
        ("build", "'build': another Python package that is used here has the name build"),
        ("json", "'json': another Python package that is used here has the name json"),
        ("runtime", "the name runtime"),
        ("pytest-asyncio", "the name pytest_asyncio"),
        ("opentelemetry", "the name opentelemetry"),
        ("actorloom", "the name actorloom"),
        ("tests", "the name tests"),
    ],
)
async def test_a_name_that_no_package_can_have_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    done = await run_command("new", name, cwd=tmp_path)
    assert done.code == 2, done
    assert reason in done.err and "'NAME'" in done.err and "Traceback" not in done.err
    assert not list(tmp_path.iterdir())


async def test_a_name_is_needed(tmp_path: Path) -> None:
    done = await run_command("new", cwd=tmp_path)
    assert done.code == 2 and "Missing argument 'NAME'" in done.err


async def test_an_empty_directory_is_used_and_another_one_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    written = await new("shop", tmp_path)
    (tmp_path / "shop" / "shop" / "books.py").write_text("mine")
    done = await run_command("new", "shop", cwd=tmp_path)
    assert (done.code, done.err) == (1, "Error: the directory shop is not empty: nothing is written\n")
    assert (tmp_path / "shop" / "shop" / "books.py").read_text() == "mine"
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / ".git").touch()
    done = await run_command("new", "hidden", cwd=tmp_path)
    assert done.code == 1 and "hidden is not empty" in done.err
    assert len(written) == len(FILES)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a directory in which not even root can write")
async def test_a_directory_that_cannot_be_written_is_named() -> None:
    done = await run_command("new", "shop", cwd=Path("/proc"))
    assert done.code == 1 and re.fullmatch(r"Error: cannot write shop: [A-Z][\w ]+\n", done.err), done


async def test_a_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("mine")
    done = await run_command("new", "shop", cwd=tmp_path)
    assert (done.code, done.err) == (1, "Error: cannot write shop: File exists\n")
    assert (tmp_path / "shop").read_text() == "mine"
