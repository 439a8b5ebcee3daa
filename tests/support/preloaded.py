"""Python in a process that has imported the runtime, and forks for each program, because the imports cost more than most commands.

    python -m tests.support.preloaded SOCKET

A client connects to the socket, and sends the program: its arguments as those of ``python``, directory, environment and open
files. It gets the process id, and then the exit code (negative: the signal). The processes are as real as others: each runs
alone, in a session of its own. They share one seed of hashes, so the full chaos suite starts interpreters.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import NoReturn

import runtime

_COMMAND = """#!{python} -ISE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as opened:
    opened.connect({path!r})
    given = json.dumps([["-P", "-m", "runtime", *sys.argv[1:]], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(opened, [len(given).to_bytes(4, "big")], [0, 1, 2])
    opened.sendall(given)
    with opened.makefile("rb") as answers:
        sys.exit(int.from_bytes(answers.read(8)[4:], "big", signed=True) & 255)
"""
_LATER = ("runtime.testing", "runtime.__main__")
"""Modules that no command imports, or that a program runs."""


def command(path: Path) -> str:
    """Return the text of the program ``actorloom`` that runs each command in a child of the process with this socket."""
    return _COMMAND.format(python=sys.executable, path=str(path))


def serve(path: Path) -> None:
    """Import the runtime, listen on a socket, and fork for each program. Return when stdin ends."""
    for module in pkgutil.walk_packages(runtime.__path__, "runtime."):
        if not module.name.startswith(_LATER):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(str(path))
        listener.listen(64)
        selector.register(listener, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        print("listening", flush=True)
        while True:
            for key, _ in selector.select():
                if key.fd == 0:
                    return
                if key.data is None:
                    client, _ = listener.accept()
                    pid = _start(client)
                    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, client))
                else:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    _report(*key.data)


def _start(client: socket.socket) -> int:
    """Fork for the program of a client, and return the process id."""
    head, files, _, _ = socket.recv_fds(client, 4, 3)
    with client.makefile("rb") as stream:
        given = json.loads(stream.read(int.from_bytes(head, "big")))
    pid = os.fork()
    if pid == 0:
        _run(given, files)
    for file in files:
        os.close(file)
    client.sendall(pid.to_bytes(4, "big"))
    return pid


def _report(pid: int, client: socket.socket) -> None:
    """Send the exit code of a child that has ended."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with client, contextlib.suppress(OSError):  # The client may have ended.
        client.sendall(code.to_bytes(4, "big", signed=True))


def _run(given: tuple[list[str], str, dict[str, str]], files: list[int]) -> NoReturn:
    """Run a program, and end this process."""
    arguments, directory, environment = given
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdout.reconfigure(line_buffering=os.isatty(1), write_through=unbuffered)  # type: ignore[union-attr]
    safe = arguments[0] == "-P"
    option, module, *rest = arguments[safe:]
    assert option == "-m"
    given_paths = [each for each in environment.get("PYTHONPATH", "").split(os.pathsep) if each]
    first = given_paths if safe else [directory, *given_paths]
    sys.path[:] = [*first, *(each for each in sys.path if each not in first)]
    sys.argv = [option, *rest]
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as an interpreter
        traceback.print_exc()
        code = 1
    # As an interpreter ends, without the time that it takes to free each module.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if isinstance(code, str):
        print(code, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 120  # as Python
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
