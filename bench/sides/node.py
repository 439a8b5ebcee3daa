"""nats.js, where Node is present: its packages once in the user's cache, driven like every other side."""

import hashlib
import json
import shutil
from pathlib import Path

from bench.environments import cache, ran
from bench.process import Child
from bench.suite import Suite
from bench.work import BODY

SOURCE = Path(__file__).parent / "node_src"


async def installed(suite: Suite) -> Path | None:
    """Return the program beside its packages, installed if need be; None, with a word, where that cannot be done."""
    texts = [(SOURCE / name).read_bytes() for name in ("package.json", "main.js")]
    home = cache() / f"nats.js-{hashlib.sha256(b''.join(texts)).hexdigest()[:12]}"
    program = home / "main.js"
    if program.exists():
        return program
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        suite.skip("nats.js", "there is no Node here")
        return None
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    shutil.copy(SOURCE / "package.json", home)
    argv = [npm, "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"]
    if not await ran(suite, "nats.js", [argv], home):
        return None
    shutil.copy(SOURCE / "main.js", home)
    return program


async def side(suite: Suite, program: Path, name: str, url: str, subject: str) -> Child:
    """Start one side: `pricing` or `caller`, JSON at both ends."""
    spec = {"side": name, "url": url, "subject": subject, "body": BODY.decode()}
    return await suite.own(
        await Child.start([shutil.which("node") or "node", str(program), json.dumps(spec)], f"node-{name}", suite.logs)
    )
