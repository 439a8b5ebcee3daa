"""Measures how plain the English of docstrings and pages is, by words that plain technical prose rarely needs.

    python -m tests.support.prose runtime docs README.md    # a line of figures for each argument, and one for all
    python -m tests.support.prose --list 40 runtime         # the sentences that raise the figures, worst first

A figure is the number of occurrences per 1,000 words: a free relative pronoun in place of a noun, a pronoun of place for
"if", a person in place of a process. The code bases that this one is compared with are between 0.0 and 1.1 on each of
them. A figure of fewer than 2,000 words means little.
"""

import argparse
import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PATTERNS = {
    "what": r"what",
    "where": r"where",
    "who": r"who|whoever|whom",
    "tell/say/stand": r"told|tell|tells|said|says|say|stands|stand|stood",
    "anew/heed/befall/nobody": r"anew|heed|heeded|befall|befalls|nobody|whichever",
}
"""A regular expression of whole words for each figure."""


class Passage(NamedTuple):
    """A docstring, or a page without its code."""

    place: str
    text: str


def passages(path: Path) -> Iterator[Passage]:
    """Yield the docstrings of a module and the text of a page, or those of all modules and pages below a folder.

    The strings below constants and attributes count as docstrings. Code in backticks is left out.
    """
    if path.is_dir():
        for file in sorted([*path.rglob("*.py"), *path.rglob("*.md")]):
            yield from passages(file)
        return
    text = path.read_text()
    if path.suffix == ".md":
        yield Passage(str(path), re.sub(r"```.*?```|`[^`]*`", " ", text, flags=re.DOTALL))
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield Passage(f"{path}:{node.lineno}", re.sub(r"``[^`]*``|`[^`]*`", " ", node.value.value))


def words(paths: list[Path]) -> list[str]:
    """Return the words of all passages below some paths, in lower case."""
    return [
        word.lower() for path in paths for passage in passages(path) for word in re.findall(r"[A-Za-z']+", passage.text)
    ]


def figures(counted: list[str]) -> dict[str, float]:
    """Return the figures of a list of words: occurrences per 1,000 for each pattern."""
    found = Counter(counted)
    return {
        name: 1000 * sum(count for word, count in found.items() if re.fullmatch(pattern, word)) / max(len(counted), 1)
        for name, pattern in PATTERNS.items()
    }


def worst(paths: list[Path], limit: int) -> Iterator[tuple[int, str, str]]:
    """Yield the number of matches, place and text of the sentences that match most."""
    every = re.compile(rf"\b(?:{'|'.join(PATTERNS.values())})\b", re.IGNORECASE)
    rows = [
        (len(every.findall(sentence)), passage.place, " ".join(sentence.split()))
        for path in paths
        for passage in passages(path)
        for sentence in re.split(r"(?<=[.!?])\s", passage.text)
    ]
    yield from (row for row in sorted(rows, reverse=True)[:limit] if row[0])


def report(paths: list[Path], limit: int) -> Iterator[str]:
    """Yield the lines that the command prints."""
    for name, counted in [*((str(path), words([path])) for path in paths), ("total", words(paths))]:
        shares = "  ".join(f"{pattern} {figure:.1f}" for pattern, figure in figures(counted).items())
        yield f"{name}: {len(counted)} words; per 1,000: {shares}"
    yield from (f"{count}  {place}: {sentence[:200]}" for count, place, sentence in worst(paths, limit))


def main() -> None:
    """Print the figures of the paths on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--list", type=int, default=0, metavar="N", help="also print the N worst sentences")
    options = parser.parse_args()
    for line in report(options.paths, options.list):
        print(line)


if __name__ == "__main__":
    main()
