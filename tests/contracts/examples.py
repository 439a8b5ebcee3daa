"""Makes the documents of each example and prints their faults. Run as a program: ``python -m tests.contracts.examples [DIRECTORY]``.

Each example is imported in a process of its own, since several of them have actors of the same name. With a DIRECTORY, the
AsyncAPI document of each is written there.
"""

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from runtime.cli.targets import find_actors
from runtime.contracts import asyncapi, openapi, plain
from runtime.contracts.asyncapi_check import problems
from runtime.contracts.from_code import services_of
from runtime.contracts.page import page
from runtime.contracts.title import title_of
from tests.contracts.structure import openapi_faults, page_faults

_ROOT = Path(__file__).parents[2] / "examples"

EXAMPLES = sorted(
    path.stem
    for path in _ROOT.iterdir()
    if (path.suffix == ".py" and "(Actor" in path.read_text()) or (path / "__init__.py").exists()
)
"""The names of the examples with actors."""


def faults(name: str, directory: str = "") -> Iterator[str]:
    """Yield the faults in the documents of an example."""
    services = services_of(find_actors([f"examples.{name}"]))
    title = title_of(services)
    document = asyncapi.document(services, title)
    if directory:
        Path(directory, f"{name}.json").write_bytes(plain.write_json(document))
    yield from map(str, problems(document))
    yield from openapi_faults(openapi.document(services, title))
    yield from page_faults(page(services, title))


def main() -> None:
    """Print a line for each example that is right, and for each fault of another."""
    for name in ("runtime.host.process", "runtime.testing"):
        import_module(name)  # once, and not in each child
    for name in EXAMPLES:
        child = os.fork()
        if child == 0:
            found = list(faults(name, *sys.argv[1:]))
            print(*[f"{name}: {text}" for text in found] or [f"{name}: right"], sep="\n", flush=True)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
