"""References lead somewhere: each file, section, decision and module that a docstring, comment or page names exists."""

import ast
import importlib
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache, reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CODE = ("runtime", "actors", "examples", "bench", "tests")
FOLDERS = (*CODE, "docs", "deploy", "constraints", ".github", ".ci")
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / ".github").rglob("*.md")])
SETTINGS = [ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / "Dockerfile", *sorted((ROOT / ".github").rglob("*.yml"))]

_FOLDER_PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./-]*\w(?![*<{{…\w]|-\*)")
_PAGE = re.compile(r"(?<![\w/.*-])([\w.-][\w./-]*\.md)\b(?:#([\w-]+)|((?:,?(?: and)? §\d+)*))")
_MODULE_FILE = re.compile(r"(?<![\w/.*<>-])((?:\w+/)*[a-z_]\w*\.py)\b")
_DECISION = re.compile(r"\bADR[ -]?(0\d\d)\b")
_DOTTED = re.compile(r"`(runtime(?:\.\w+)+)")


EXAMPLES = {"orders.py", "runtime.py", "msgspec.py"}
"""Files of an application that texts name as examples."""


def prose(path: Path) -> Iterator[str]:
    """Yield the docstrings and comments of a module (of runtime/ and actors/ all texts), or the text of any other file."""
    text = path.read_text()
    if path.suffix != ".py":
        yield text
        return
    nodes = list(ast.walk(ast.parse(text)))
    if path.relative_to(ROOT).parts[0] not in ("runtime", "actors"):
        nodes = [node.value for node in nodes if isinstance(node, ast.Expr)]
    yield from (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def dangling(text: str, folder: Path) -> Iterator[str]:
    """Yield the references in `text` that lead nowhere; `folder` is the place of the file that contains it."""
    if not re.search(r"\w[./]\w|ADR", text):
        return
    text = re.sub(r"\w+://\S+", " ", text)
    yield from (found[0] for found in _FOLDER_PATH.finditer(text) if not (ROOT / found[0]).exists())
    for named, anchor, sections in _PAGE.findall(text):
        page = find_page(named, folder)
        if page is None:
            yield named
        elif anchor and anchor not in anchors(page):
            yield f"{named}#{anchor}"
        else:
            numbers = re.findall(r"§(\d+)", sections)
            yield from (f"{named} §{number}" for number in numbers if number not in numbered_sections(page))
    yield from (f"ADR {number}" for number in _DECISION.findall(text) if not list(DOCS.glob(f"adr/{number}-*.md")))
    written = set(re.findall(r"(?m)^`([\w/.]+)`:$", text))  # a page that has its reader write a file
    for named in set(_MODULE_FILE.findall(re.sub(r"(?ms)^```.*?^```$", "", text))) - written - EXAMPLES:
        if not any(module.endswith(f"/{named}") for module in modules()):
            yield named
    yield from (name for name in set(_DOTTED.findall(text)) - EXAMPLES if not resolves(name))


def find_page(named: str, folder: Path) -> Path | None:
    """Find a page by its path from the folder, the root or docs/."""
    return next((page for base in (folder, ROOT, DOCS, DOCS / "adr") if (page := base / named).is_file()), None)


@cache
def headings(page: Path) -> list[str]:
    """Return the headings of a page, without code blocks."""
    return re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^```.*?^```$", "", page.read_text()))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub derives them from its headings."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings(page)}


def numbered_sections(page: Path) -> set[str]:
    """Return the numbers of the sections of a page: `## 3. The turn` is section 3."""
    return {found[1] for heading in headings(page) if (found := re.match(r"(\d+)\b", heading))}


@cache
def modules() -> list[str]:
    return [f"/{path.relative_to(ROOT)}" for folder in CODE for path in (ROOT / folder).rglob("*.py")]


def resolves(name: str) -> bool:
    """Return whether a dotted name is a module or something in one. A module that is named as a whole is not imported."""
    path, rest = ROOT, name.split(".")
    while rest and ((path / rest[0]).is_dir() or (path / f"{rest[0]}.py").is_file()):
        path /= rest.pop(0)
    if not rest:
        return True
    try:
        reduce(getattr, rest, importlib.import_module(".".join(path.relative_to(ROOT).parts)))
    except AttributeError:
        return False
    return True


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Yield file and anchor of each link of a page that stays in the repository."""
    yield from re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", page.read_text())


def test_each_reference_leads_somewhere() -> None:
    paths = [*PAGES, *SETTINGS, *sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))]
    found = [
        f"{path.relative_to(ROOT)}: {reference}"
        for path in paths
        for text in prose(path)
        for reference in dangling(text, path.parent)
    ]
    assert found == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_somewhere(page: Path) -> None:
    for file, anchor in links(page):
        target = page.parent / file if file else page
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}"


@pytest.mark.parametrize(
    "text",
    [
        "see tests/nowhere/test_nothing.py",
        "see `docs/nothing.md`",
        "see nothing.md",
        "see reference.md#nothing",
        "see reference.md §99",
        "see reference.md §98 and §99",
        "see ADR 099",
        "see nothing_there.py",
        "see ``runtime.nothing``",
        "see `runtime.testing.nothing`",
    ],
)
def test_a_dangling_reference_is_found(text: str) -> None:
    assert list(dangling(text, ROOT))


@pytest.mark.parametrize(
    "text",
    [
        "see tests/test_references.py, and all of tests/",
        "constraints/*.txt and docs/adr/NNN-*.md",
        "see https://example.org/nothing.md",
        "see reference.md#settings-of-a-process, docs/wire.md and README.md",
        "NATS micro (ADR-32), ADR 001",
        "`library/books.py`:\n\nabove is library/books.py",
        "`runtime.testing.worker` in handling.py",
    ],
)
def test_a_true_reference_is_left_alone(text: str) -> None:
    assert list(dangling(text, ROOT)) == []
