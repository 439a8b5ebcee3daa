"""YAML as people expect it: the plain texts of the core schema of YAML 1.2, and no field twice.

By the rules of YAML 1.1, which PyYAML follows, ``NO`` is false, ``12:30`` is 750 and ``2026-03-01`` is a date.
"""

import re
from typing import Any

from runtime.errors import ConfigurationError

_PLAIN: list[tuple[str, str, str]] = [
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+0123456789."),
    ("null", r"null|Null|NULL|~|", "nN~"),
    ("merge", r"<<", "<"),
]  # fmt: skip
"""Type, plain texts and their first characters."""


def read_yaml(text: str, path: str) -> object:
    """Return the decoded content of a YAML document.

    Args:
        text: The document.
        path: The path of its file, for errors.

    Raises:
        ConfigurationError: The text is not YAML, or a field stands twice in a map. The text names the line.
    """
    try:
        import yaml
    except ImportError:
        raise ConfigurationError(
            f"{path}: YAML needs the package PyYAML: install actorloom[router], or write JSON"
        ) from None

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as PyYAML has it

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                fault = "the name of a field is not a text" if not isinstance(key.value, str) else ""
                if not fault and key.value in seen and key.tag != _MERGE:
                    fault = f"the field {key.value} stands twice in a map"
                if fault:
                    raise yaml.constructor.ConstructorError(problem=fault, problem_mark=key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    for name, pattern, first in _PLAIN:
        empty = [""] if name == "null" else []
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(rf"(?:{pattern})\Z"), [*first, *empty])
    Loader.add_constructor("tag:yaml.org,2002:int", _integer)
    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        raise ConfigurationError(f"{path}{line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(f"{path}: {' '.join(str(error).split())[:200]}") from None


_MERGE = "tag:yaml.org,2002:merge"


def _integer(loader: Any, node: Any) -> int:
    text: str = loader.construct_scalar(node)
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
