"""AWS's event-ruler in a Java process, which compares patterns with events in one run."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

VERSION = "2.0.1"
SOURCE = Path(__file__).with_name("Compare.java")
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>actorloom.test</groupId>
  <artifactId>ruler</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>software.amazon.event.ruler</groupId>
      <artifactId>event-ruler</artifactId>
      <version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""

Compare = Callable[[Iterable[tuple[object, object]]], list[str]]
"""Takes pairs of a pattern and an event, and returns for each the word that `Compare.java` documents."""


@pytest.fixture(scope="session")
def event_ruler(tmp_path_factory: pytest.TempPathFactory) -> Compare:
    """Fetch event-ruler with Maven, and compile the program that runs it, in a temporary directory."""
    for program in ("mvn", "javac", "java"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: the comparison with event-ruler needs Java and Maven")
    directory = tmp_path_factory.mktemp("ruler")
    (directory / "pom.xml").write_text(POM)
    fetched = run(directory, ["mvn", "-q", "-B", "dependency:build-classpath", "-Dmdep.outputFile=classpath"])
    if fetched.returncode:
        pytest.skip(f"Maven has no event-ruler {VERSION}: {(fetched.stdout + fetched.stderr).strip()[:500]}")
    classpath = f"{(directory / 'classpath').read_text().strip()}:{directory}"
    compiled = run(directory, ["javac", "-cp", classpath, "-d", str(directory), str(SOURCE)])
    assert compiled.returncode == 0, compiled.stderr

    def compare(pairs: Iterable[tuple[object, object]]) -> list[str]:
        lines = "".join(f"{json.dumps(part)}\n" for pair in pairs for part in pair)
        answered = run(directory, ["java", "-Xmx512m", "-cp", classpath, "Compare"], lines)
        assert answered.returncode == 0, answered.stderr[-2000:]
        return answered.stdout.split()

    return compare


def run(directory: Path, command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=directory, input=text, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False
    )
