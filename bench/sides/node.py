"""nats.js, if Node is installed: its packages are installed once, in the user's cache. Called like every other side."""

import hashlib
import json
import shutil
from pathlib import Path

from bench.environments import cache_directory, run_steps
from bench.process import Child
from bench.suite import Suite
from bench.work import BODY

SOURCE = Path(__file__).parent / "node_src"


async def install(suite: Suite) -> Path | None:
    """Return the program, installing its packages if needed. If that fails, skip nats.js in the report and return None."""
    texts = [(SOURCE / name).read_bytes() for name in ("package.json", "main.js")]
    home = cache_directory() / f"nats.js-{hashlib.sha256(b''.join(texts)).hexdigest()[:12]}"
    program = home / "main.js"
    if program.exists():
        return program
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        suite.skip("nats.js", "Node is not installed")
        return None
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    shutil.copy(SOURCE / "package.json", home)
    argv = [npm, "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"]
    if not await run_steps(suite, "nats.js", [argv], home):
        return None
    shutil.copy(SOURCE / "main.js", home)
    return program


async def side(suite: Suite, program: Path, name: str, url: str, subject: str) -> Child:
    """Start one side: ``pricing`` answers, ``caller`` sends requests. Both decode and encode JSON."""
    spec = {"side": name, "url": url, "subject": subject, "body": BODY.decode()}
    return await suite.adopt(
        await Child.start([shutil.which("node") or "node", str(program), json.dumps(spec)], f"node-{name}", suite.logs)
    )
