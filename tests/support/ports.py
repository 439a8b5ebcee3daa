"""Ports for servers whose configuration needs the numbers before they start."""

import socket


def free_ports(count: int) -> list[int]:
    """Return different ports of 127.0.0.1 that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
