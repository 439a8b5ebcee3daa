"""nats.go, if Go is installed: built from go_src once, in the user's cache, and called like every other side."""

import hashlib
import json
import shutil
from pathlib import Path

from bench.environments import cache_directory, run_steps
from bench.process import Child
from bench.suite import Suite
from bench.work import BODY

SOURCE = Path(__file__).parent / "go_src"


def program() -> Path:
    """Return the path of the program built from the current sources, whether it exists or not."""
    names = ("go.mod", "go.sum", "main.go")
    digest = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in names)).hexdigest()[:12]
    return cache_directory() / f"natsbench-{digest}"


async def build(suite: Suite) -> Path | None:
    """Return the program, building it if needed. If that fails, skip nats.go in the report and return None."""
    binary = program()
    if binary.exists():
        return binary
    go = shutil.which("go")
    if go is None:
        suite.skip("nats.go", "Go is not installed")
        return None
    binary.parent.mkdir(parents=True, exist_ok=True)
    if not await run_steps(suite, "nats.go", [[go, "build", "-o", str(binary), "."]], SOURCE):
        return None
    return binary


async def side(
    suite: Suite, binary: Path, name: str, url: str, subject: str, decode: bool, trace: float | None = None
) -> Child:
    """Start one side of the Go program.

    Args:
        suite: The running suite.
        binary: The program.
        name: ``pricing`` answers, ``caller`` sends requests.
        url: URL of the server.
        subject: Subject of the requests.
        decode: Decode and encode JSON at both ends; otherwise send fixed bytes.
        trace: Share of requests with a sampled trace context; None sends none.
    """
    spec = {"side": name, "url": url, "subject": subject, "body": BODY.decode(), "decode": decode, "trace": trace}
    return await suite.adopt(await Child.start([str(binary), json.dumps(spec)], f"go-{name}", suite.logs))


async def caller(suite: Suite, url: str, subject: str, trace: float | None = None) -> Child:
    """Start the load generator for measurements of the answering process alone.

    It is nats.go with a fixed body, or our own connection with the same body if Go is not installed.
    """
    binary = await build(suite)
    if binary is not None:
        return await side(suite, binary, "caller", url, subject, False, trace)
    return await suite.side("neutral:sender", url=url, subject=subject, share=trace)
