"""The title and version of a document, from its services."""

from typing import NamedTuple

from runtime.admin.discovery import Service


class Title(NamedTuple):
    """The title, version and description of a document."""

    title: str
    version: str
    description: str


def title_of(services: list[Service], title: str = "") -> Title:
    """Return the title of the document of some services.

    Args:
        services: The services, at least one.
        title: The title; by default the name of the only service, or else ``Actors``, with the namespace if there is one.

    Returns:
        The version is that of the services if they agree on one, or else ``0.0.0``; the description lists name and version of
        each.
    """
    names = sorted(services, key=lambda each: each.name)
    versions = {each.version for each in services}
    namespace = services[0].metadata.namespace
    default = names[0].name if len(names) == 1 else f"Actors of {namespace}" if namespace else "Actors"
    listed = ", ".join(f"{each.name} {each.version}" for each in names)
    return Title(title or default, versions.pop() if len(versions) == 1 else "0.0.0", f"Services: {listed}.")
