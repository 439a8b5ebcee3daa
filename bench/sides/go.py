"""nats.go, where Go is present: built once into the user's cache from sides/go_src, driven like every other side."""

import hashlib
import json
import shutil
from pathlib import Path

from bench.environments import cache, ran
from bench.process import Child
from bench.suite import Suite
from bench.work import BODY

SOURCE = Path(__file__).parent / "go_src"


def program() -> Path:
    """Where the program is, or would be, for the sources as they stand."""
    names = ("go.mod", "go.sum", "main.go")
    digest = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in names)).hexdigest()[:12]
    return cache() / f"natsbench-{digest}"


async def built(suite: Suite) -> Path | None:
    """Return the program, built if need be; None, with a word in the report, where that cannot be done."""
    binary = program()
    if binary.exists():
        return binary
    go = shutil.which("go")
    if go is None:
        suite.skip("nats.go", "there is no Go here")
        return None
    binary.parent.mkdir(parents=True, exist_ok=True)
    if not await ran(suite, "nats.go", [[go, "build", "-o", str(binary), "."]], SOURCE):
        return None
    return binary


async def side(
    suite: Suite, binary: Path, name: str, url: str, subject: str, decode: bool, trace: float | None = None
) -> Child:
    """Start one side: `pricing` or `caller`. `decode`: JSON at both ends, else bytes; `trace`: the share sampled."""
    spec = {"side": name, "url": url, "subject": subject, "body": BODY.decode(), "decode": decode, "trace": trace}
    return await suite.own(await Child.start([str(binary), json.dumps(spec)], f"go-{name}", suite.logs))


async def caller(suite: Suite, url: str, subject: str, trace: float | None = None) -> Child:
    """Start the neutral load generator: nats.go, or without Go our own connection with ready-made bytes."""
    binary = await built(suite)
    if binary is not None:
        return await side(suite, binary, "caller", url, subject, False, trace)
    return await suite.side("neutral:sender", url=url, subject=subject, share=trace)
