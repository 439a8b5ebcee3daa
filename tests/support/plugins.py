"""The plugin of pytest, as pytest finds it in an environment in which the package is installed."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def install_plugin(directory: Path) -> None:
    """Write the entry points of pyproject.toml to a directory, which belongs on the path of Python."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    installed = directory / "actorloom-0.1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: actorloom\nVersion: 0.1.0\n")
    lines = "\n".join(f"{name} = {module}" for name, module in declared.items())
    (installed / "entry_points.txt").write_text(f"[pytest11]\n{lines}\n")
