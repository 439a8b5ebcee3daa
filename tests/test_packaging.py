"""The distributions: the wheel and the sdist are built and contain the right files, and the wheel works by itself."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from runtime.nats.server import find_nats_server

ROOT = Path(__file__).parent.parent


def run(*arguments: str, cwd: Path, path: str = "", python: Path | str = sys.executable) -> str:
    """Run Python to its end and return its output; `path` is its PYTHONPATH."""
    done = subprocess.run(
        [python, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, target: str, into: Path) -> Path:
    """Build one distribution of the project in `source`."""
    run("-m", "hatchling", "build", "-t", target, "-d", str(into), cwd=source)
    [built] = into.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Path:
    """A directory with the content of the wheel, as an installer leaves it."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    return tmp_path / "installed"


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_installs_the_library_and_the_shop_and_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in names(wheel)}
    [metadata] = [top for top in tops if top.endswith(".dist-info")]
    assert tops == {"runtime", "actorloom_shop", metadata}
    assert {"runtime/py.typed", "runtime/cli/__init__.py", "actorloom_shop/orders/actor.py"} <= names(wheel)


def test_the_wheel_has_every_module_of_the_checkout(wheel: Path) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "runtime").rglob("*.py")}
    modules |= {f"actorloom_shop/{path.relative_to(ROOT / 'actors')}" for path in (ROOT / "actors").rglob("*.py")}
    assert {name for name in names(wheel) if name.endswith(".py")} == modules


def test_the_sdist_is_enough_to_build_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(build(ROOT, "sdist", tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    [source] = (tmp_path / "source").iterdir()
    assert names(build(source, "wheel", tmp_path / "again")) == names(wheel)


def test_the_entry_point_of_the_demo_loads(installed: Path) -> None:
    code = (
        "from runtime.cli.demo_command import find_demo as f; import sys; print(sys.modules[f().__module__].__file__)"
    )
    found = run("-c", code, cwd=installed.parent, path=str(installed))
    assert found == f"{installed / 'actorloom_shop' / 'demo.py'}\n"


def test_pytest_finds_the_plugin(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(actors, nats_server):\n    assert nats_server.port\n")
    found = run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path, path=str(installed))
    assert "1 passed" in found


def test_the_services_of_the_shop_are_found_by_their_installed_name(installed: Path) -> None:
    code = "from runtime.cli.targets import find_actors; print(*[a.__module__ for a in find_actors(['actorloom_shop.orders'])])"
    assert run("-c", code, cwd=installed.parent, path=str(installed)) == "actorloom_shop.orders.actor\n"


@pytest.fixture
def project(wheel: Path, tmp_path: Path) -> Path:
    """An application outside the checkout, with the wheel in a virtual environment of its own: ``.venv``."""
    environment = tmp_path / "project" / ".venv"
    venv.create(environment)
    [site] = environment.glob("lib/*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (site / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n")  # the packages that the wheel depends on
    application = tmp_path / "project" / "application"
    application.mkdir()
    for name in ("contracts", "right"):
        text = (ROOT / "tests" / "typing" / f"{name}.py").read_text()
        (application / f"{name}.py").write_text(text.replace("tests.typing.", "application."))
    (application / "__init__.py").touch()
    return tmp_path / "project"


def test_an_application_passes_mypy_strict(project: Path) -> None:
    python = project / ".venv" / "bin" / "python"
    found = run("-m", "mypy", "--strict", "--python-executable", str(python), "-p", "application", cwd=project)
    assert found == "Success: no issues found in 3 source files\n"


def test_an_application_passes_pyright_strict(project: Path) -> None:
    # The last one is a client without this package, by the types of nats-py.
    shutil.copytree(ROOT / "examples", project / "examples", ignore=shutil.ignore_patterns("plain_client.py"))
    settings = '{"typeCheckingMode": "strict", "include": ["application", "examples"]}'
    (project / "pyrightconfig.json").write_text(settings)
    python = project / ".venv" / "bin" / "python"
    assert run("-m", "basedpyright", "--pythonpath", str(python), cwd=project).startswith("0 errors")


def test_a_new_project_is_tested_typed_and_built(project: Path) -> None:
    python = project / ".venv" / "bin" / "python"
    python.with_name("nats-server").symlink_to(find_nats_server())  # as the `server` extra installs it
    run("-P", "-m", "runtime", "new", "my-shop", cwd=project, python=python)
    own = project / "my-shop"
    assert "3 passed" in run("-m", "pytest", "-q", "-W", "error", cwd=own, python=python)
    assert run("-m", "mypy", cwd=own, python=python) == "Success: no issues found in 4 source files\n"
    assert run("-m", "basedpyright", "--pythonpath", str(python), cwd=own).startswith("0 errors, 0 warnings")
    run("-m", "ruff", "check", cwd=own)
    run("-m", "ruff", "format", "--check", cwd=own)
    assert {"my_shop/__init__.py", "my_shop/books.py", "my_shop/messages.py"} < names(
        build(own, "wheel", project / "dist")
    )
    hadolint = Path(sys.executable).parent / "hadolint"
    subprocess.run([hadolint, "Dockerfile"], cwd=own, check=True)
