"""The command line in a process that has imported it: it forks for each command, because the imports cost more than most commands.

    python -m tests.support.preloaded SOCKET

`command` is the program ``actorloom`` for a directory in the PATH: it hands its arguments, directory, environment and open files to
that process, and exits with the code of the command.
"""

import importlib
import json
import os
import pkgutil
import socket
import sys
from pathlib import Path

ROOMS = ("cli", "router", "contracts", "admin")
"""The rooms whose modules are imported."""

_COMMAND = """#!{python} -ISE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as opened:
    opened.connect({path!r})
    given = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(opened, [len(given).to_bytes(4, "big")], [0, 1, 2])
    opened.sendall(given)
    sys.exit(opened.recv(1)[0])
"""


def command(path: Path) -> str:
    """Return the text of the program that sends its command to the process that listens on the socket `path`."""
    return _COMMAND.format(python=sys.executable, path=str(path))


def serve(path: Path) -> None:
    """Import the command line, listen on a socket, and run each command in a child. Does not return."""
    for room in ROOMS:
        package = importlib.import_module(f"runtime.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        print("listening", flush=True)
        while True:
            accepted, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(accepted)
            accepted.close()
            _reap()


def _reap() -> None:
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def _answer(accepted: socket.socket) -> None:
    """Run one command in a child, and send its exit code."""
    head, files, _, _ = socket.recv_fds(accepted, 4, 3)
    with accepted.makefile("rb") as stream:
        given = json.loads(stream.read(int.from_bytes(head, "big")))
    child = os.fork()
    if child == 0:
        accepted.close()
        _run(given, files)
    accepted.sendall(bytes([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255]))
    os._exit(0)


def _run(given: tuple[list[str], str, dict[str, str]], files: list[int]) -> None:
    from runtime.__main__ import main

    sys.argv, directory, environment = given
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
