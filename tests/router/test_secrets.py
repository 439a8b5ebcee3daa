"""Secret files: names without paths, links inside the directory only, and errors without the text."""

from pathlib import Path

import pytest

from runtime.errors import ConfigurationError
from runtime.router.secrets import Secrets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    (folder / "..data").mkdir(parents=True)
    (folder / "..data" / "token").write_text("inside\r\n")
    (folder / "token").symlink_to(Path("..data") / "token")
    (tmp_path / "other").write_text("outside")
    return folder


def test_a_file_is_read_without_the_end_of_its_line(folder: Path) -> None:
    assert Secrets.from_environment({"ACTORLOOM_SECRETS": str(folder)}).read("token") == "inside"


@pytest.mark.parametrize("name", ["", "../other", "..", ".", "/etc/passwd", "..data/token", "a/b", "a\0b", "a\n"])
def test_a_path_is_no_name(folder: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="write the name of a file in ACTORLOOM_SECRETS, without a path"):
        Secrets(folder).read(name)


def test_a_link_out_of_the_directory_is_not_followed(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent / "other")
    with pytest.raises(ConfigurationError, match="'link' is not a file in ACTORLOOM_SECRETS"):
        Secrets(folder).read("link")


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo-s3cret", b"s3cret\xff", b"s3cret\x1b", b"s" * 65_537])
def test_a_text_that_no_header_can_have_is_refused_and_not_shown(folder: Path, content: bytes) -> None:
    (folder / "bad").write_bytes(content)
    with pytest.raises(ConfigurationError, match="secret 'bad' is not ") as caught:
        Secrets(folder).read("bad")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_without_a_directory_the_variable_is_named() -> None:
    with pytest.raises(ConfigurationError, match="secret 'token': set ACTORLOOM_SECRETS to the directory"):
        Secrets.from_environment({}).read("token")
