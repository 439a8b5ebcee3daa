"""`shell`: Python with a connected bus, through a pipe and in a terminal."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.nats.server import EmbeddedServer
from runtime.testing import running
from tests.support.counting import Counter
from tests.support.process import ROOT, Completed, run_command
from tests.support.terminal import Terminal

TARGET = "tests.support.counting"


@pytest.fixture
async def url(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[str]:
    async with running(Counter, url=nats_server.url, namespace=namespace):
        yield nats_server.url


async def shell(url: str, namespace: str, *lines: str, targets: tuple[str, ...] = (TARGET,)) -> Completed:
    arguments = ("shell", *targets, "--nats", url, "--namespace", namespace)
    return await run_command(*arguments, cwd=ROOT, stdin="".join(f"{line}\n" for line in lines))


async def test_piped_lines_run_with_a_bus_and_await(url: str, namespace: str) -> None:
    result = await shell(
        url,
        namespace,
        "await bus.command(Add('a', 2))",
        "count = await bus.query(GetCount('a'))",
        "count.value + 1",
        "_ * 10",
        "async with bus.events(Added, key='a', since='first') as events:",
        "    (await anext(events)).by",
        "",
        "waiting = asyncio.create_task(bus.command(Add('a', 5)))",
        "(await waiting).value",
        "for number in range(2):",
        "    await bus.command(Add('b'))",
    )
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "Count(name='a', value=2)", "3", "30", "2", "7", "Count(name='b', value=1)", "Count(name='b', value=2)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "error", "code"),
    [
        ("await bus.query(GetCount('none'))", "404 NotFound: no counter none", 3),
        ("await bus.command(Add('a', 0))", "409 TooLow: add at least one", 3),
        ("await bus.query(GetCount(7))", "InvalidValue: the query does not fit GetCount: Expected `str`, got `int`", 1),
        ("await bus.query(GetSeen('a'))", "503 NotDelivered: ", 4),
        ("await bus.query(Add('a'))", "DeclarationError: Add is not a query: use Bus.command", 2),
        ("await bus.command(Wait('a'), timeout=0.1)", "408 DeadlineExceeded: ", 5),
        ("1 +", "SyntaxError: invalid syntax", 1),
        ("1 / 0", "ZeroDivisionError: division by zero", 1),
        ("await asyncio.wait_for(asyncio.Event().wait(), 0.01)", "TimeoutError", 5),
        ("raise asyncio.CancelledError", "CancelledError", 1),
    ],
)
async def test_an_error_is_short_and_the_next_line_runs(
    url: str, namespace: str, line: str, error: str, code: int
) -> None:
    result = await shell(url, namespace, line, "'next'")
    assert result.out.splitlines() == ["'next'"]
    assert error in result.err
    assert "runtime/" not in result.err
    assert result.code == code
    if error[0] in "45ID":
        assert len(result.err.strip().splitlines()) == 1


async def test_a_statement_may_end_the_shell_with_a_code(url: str, namespace: str) -> None:
    assert (await shell(url, namespace, "import sys", "1 / 0", "sys.exit(7)", "8")).code == 7
    assert (await shell(url, namespace, "asyncio.create_task(asyncio.sleep(1000)) and None", "exit()")).code == 0


async def test_a_value_controls_no_terminal(url: str, namespace: str) -> None:
    lines = ("class Bell:", "    __repr__ = lambda self: '\\x1b[31m'", "", "Bell()")
    assert (await shell(url, namespace, *lines)).out == "\\x1b[31m\n"


async def test_messages_of_modules_without_actors_are_known(url: str, namespace: str) -> None:
    result = await shell(url, namespace, "GetProduct('mug').product_id", "Package", targets=("actors/products",))
    assert result.out.splitlines() == ["'mug'", "<class 'actors.products.messages.Package'>"]


async def test_what_is_no_target_or_no_server_is_an_error(url: str, namespace: str) -> None:
    result = await shell(url, namespace, targets=("nowhere",))
    assert (result.code, "no module 'nowhere'" in result.err) == (2, True)
    result = await shell("nats://127.0.0.1:1", namespace)
    assert (result.code, "Traceback" in result.err) == (4, False)
    assert "127.0.0.1:1" in result.err


async def test_a_terminal_has_a_prompt_completion_and_interrupts(url: str, namespace: str) -> None:
    arguments = ("shell", TARGET, "--nats", url, "--namespace", namespace)
    async with Terminal.run(*arguments) as terminal:
        await terminal.until("messages of counter, watcher are imported")
        await terminal.until_prompt()
        terminal.type("await bus.query(GetC\t'none'))\n")
        await terminal.until("404 NotFound: no counter none")
        await terminal.until_prompt()
        terminal.type("print('it ' + 'waits'); await asyncio.sleep(1000)\n")
        await terminal.until("it waits\r\n")
        terminal.type("\x03")
        await terminal.until("KeyboardInterrupt")
        await terminal.until_prompt()
        terminal.type("'still ' + 'here'\n")
        await terminal.until("'still here'")
        await terminal.until_prompt()
        terminal.type("half")
        await terminal.until("half")
        terminal.type("\x03")
        await terminal.until("KeyboardInterrupt", 2)
        await terminal.until_prompt()
        terminal.type("\x04")
        assert await terminal.wait() == 0


async def test_a_statement_that_blocks_does_not_keep_the_shell_from_its_end(url: str, namespace: str) -> None:
    async with Terminal.run("shell", TARGET, "--nats", url, "--namespace", namespace) as terminal:
        await terminal.until_prompt()
        terminal.type("import time; print('it ' + 'blocks'); time.sleep(1000)\n")
        await terminal.until("it blocks\r\n")
        terminal.type("\x03")
        await terminal.until("the statement does not await, and goes on")
        await terminal.until_prompt()
        terminal.type("\x04")
        assert await terminal.wait() == 0


async def test_a_message_of_the_runtime_gives_way_to_one_of_its_name(url: str, namespace: str, tmp_path: Path) -> None:
    module = 'from runtime import Command\n\n\nclass PutRule(Command[None], actor="judges"):\n    pass\n'
    (tmp_path / "judges.py").write_text(module)
    arguments = ("shell", "judges", "runtime.router", "--nats", url, "--namespace", namespace)
    result = await run_command(*arguments, cwd=tmp_path, stdin="PutRule()\nDisableRule('x')\n")
    assert (result.out.splitlines(), result.err) == (["PutRule()", "DisableRule(name='x', expect=None)"], "")
