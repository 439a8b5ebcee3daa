"""A stream of records that is restored from a backup while its actor runs: the actor notices, and begins again."""

import shutil
from pathlib import Path

from runtime.nats.server import EmbeddedServer
from runtime.wire.ids import new_id
from tests.support.counting import Add, Count, Counter, GetCount, ListCounts
from tests.support.probe import running


async def test_no_state_from_before_a_restore_is_shown(namespace: str, tmp_path: Path) -> None:
    """The restored stream has its old creation time. The actor notices by the end of the stream after the reconnect."""
    server = EmbeddedServer(port=0, store_dir=tmp_path / "live")
    await server.start()
    try:
        async with running(Counter, url=server.url, namespace=namespace) as system:
            for name in ("a", "b"):
                await system.bus.command(Add(name, 1))
            await system.stored_events("counter")
            await server.stop()
            shutil.copytree(tmp_path / "live", tmp_path / "backup")
            await server.start()
            for _ in range(20):
                await system.bus.retry(Add("a", 1), id=new_id(), timeout=10)
            await system.stored_events("counter")
            assert await system.bus.query(GetCount("a")) == Count("a", 21)
            before = system.ownership("counter")
            await server.stop()
            shutil.rmtree(tmp_path / "live")
            shutil.move(tmp_path / "backup", tmp_path / "live")
            await server.start()
            await system.until(lambda: system.is_ready("counter") and system.ownership("counter") is not before)
            assert await system.bus.query(GetCount("a")) == Count("a", 1)
            assert await system.bus.query(ListCounts()) == [Count("a", 1), Count("b", 1)]
            assert await system.bus.command(Add("a", 1)) == Count("a", 2)
    finally:
        await server.stop()
