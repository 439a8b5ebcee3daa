"""`new`: writes a project with one actor, which runs, is tested and typed, and has a Dockerfile.

The templates are the files below ``project``, with ``.in`` behind their names. They are those of the project ``library``, whose
actor is that of docs/tutorial.md: the name of another project replaces this word in their paths and texts.
"""

import re
import sys
from importlib.machinery import PathFinder
from keyword import iskeyword
from pathlib import Path
from typing import Final

import click

from runtime.cli.failures import FAILED, Failure

_TEMPLATES: Final = Path(__file__).parent / "project"

_TAKEN: Final = frozenset({"actorloom", "build", "dist", "opentelemetry", "tests"})
"""Names that the project uses, and that `_is_module` does not find: its dependency, a package without a file, its tests, and
directories that its `.gitignore` leaves out of Git and of its wheel."""


@click.command("new")
@click.argument("name", callback=lambda _, __, name: _checked(name))
def command(name: str) -> None:
    """Write a project with one actor into the directory NAME, which is empty or does not exist yet.

    The actor is that of the tutorial. Its tests run on a real nats-server, mypy and pyright check it strictly, and a Dockerfile and a
    compose file run it in containers. The directory my-shop has the Python package my_shop.
    """
    from runtime.cli.output import echo

    package = _package_of(name)
    try:
        _write(Path(name), package)
    except OSError as error:
        raise Failure(f"cannot write {error.filename or name}: {error.strerror}", FAILED) from None
    echo(f"{name}/ has a project with one actor, {package}/books.py. Next, in {name}/:")
    echo(f"  actorloom run {package}")
    echo("  actorloom command books.add_book title=Emma copies=2    (in another terminal)")
    echo("  python -m pytest                                        (README.md: the tools for this)")


def _write(directory: Path, package: str) -> None:
    """Write the files of the project.

    Raises:
        Failure: The directory is not empty.
        OSError: A file cannot be written.
    """
    directory.mkdir(exist_ok=True)
    if any(directory.iterdir()):
        raise Failure(f"the directory {directory} is not empty: nothing is written", FAILED)
    for template in sorted(_TEMPLATES.rglob("*.in")):
        path = directory / _named(str(template.relative_to(_TEMPLATES)).removesuffix(".in"), package)
        path.parent.mkdir(exist_ok=True)
        path.write_text(_named(template.read_text("utf-8"), package), "utf-8")


def _named(text: str, package: str) -> str:
    return re.sub(r"\blibrary\b", package, text)


def _package_of(name: str) -> str:
    return name.replace("-", "_")


def _checked(name: str) -> str:
    """Return a name from which a Python package and a distribution can have theirs. Another one ends the command."""
    package = _package_of(name)
    if not re.fullmatch(r"[a-z]([a-z0-9_]*[a-z0-9])?", package):
        raise click.BadParameter(
            f"{name!r}: write a name of lower-case letters, digits, - and _, with a letter first, and no - or _ at the end"
        )
    if iskeyword(package):
        raise click.BadParameter(f"{name!r} is a keyword of Python, so no package can have this name")
    if package in _TAKEN or package in sys.stdlib_module_names or _is_module(package):
        raise click.BadParameter(f"{name!r}: another Python package that is used here has the name {package}")
    return name


def _is_module(package: str) -> bool:
    """Return whether a module or package outside of the working directory has this name."""
    here = {"", str(Path.cwd())}
    found = PathFinder.find_spec(package, [path for path in sys.path if path not in here])
    return found is not None and found.origin is not None
