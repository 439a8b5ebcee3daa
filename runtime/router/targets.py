"""The actor ``targets``: it keeps the targets, each under its name, and serves an actor for each of them."""

import re
from importlib.util import find_spec
from typing import Any

import msgspec

from runtime.actor.base import Actor
from runtime.actor.decorators import command, query
from runtime.actor.indexes import Index, Page
from runtime.errors import NotFound
from runtime.options import Options
from runtime.router.following import all_pages
from runtime.router.hosting import Hosting
from runtime.router.http_request import RequestForm
from runtime.router.inputs import InputError, compile_input
from runtime.router.rule import ListRules
from runtime.router.target import (
    CommandKind,
    DeleteTarget,
    EventKind,
    GetTarget,
    HttpKind,
    Kind,
    ListTargets,
    LogKind,
    PauseTarget,
    PutTarget,
    ResumeTarget,
    SubjectKind,
    Target,
    TargetChanged,
    TargetConflict,
    TargetFields,
    TargetInvalid,
)
from runtime.wire.subjects import KINDS, snake_case, valid_name, valid_namespace

_SUBJECT = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")
_RESERVED = ("$", "_INBOX")
"""The beginnings of subjects that belong to the server and to its clients."""


class Targets(Actor[Target], indexes=[Index("deleted")]):
    """Targets: where the deliveries of rules go."""

    name = "targets"
    options = Options(timeout=10.0)

    async def on_start(self) -> None:
        """Serve an actor for each target."""
        self.hosting = Hosting(self)
        self.hosting.start()

    async def on_stop(self) -> None:
        """Drain the actors of the targets."""
        await self.hosting.stop()

    @command
    async def put_target(self, message: PutTarget) -> Target:
        """Create or replace a target."""
        old = self.state
        _expect(old, message.expect, message.name)
        check_kind(message.target.to)
        if old is not None and not old.deleted and _fields(old) == _fields(message.target):
            return old
        await self.hosting.prepare(message.name)
        return self._store(
            Target(
                **_fields(message.target),
                name=message.name,
                version=1 if old is None else old.version + 1,
                paused=old is not None and old.paused and not old.deleted,
                changed=self.now,
            )
        )

    @command
    async def pause_target(self, message: PauseTarget) -> Target:
        """Pause a target: its deliveries wait."""
        return self._pause(True)

    @command
    async def resume_target(self, message: ResumeTarget) -> Target:
        """Resume a target: the deliveries that wait go on."""
        return self._pause(False)

    @command
    async def delete_target(self, message: DeleteTarget) -> Target:
        """Delete a target that no rule names, and return it."""
        target = self._existing()
        _expect(target, message.expect, message.name)
        if rules := await self._rules_of(message.name):
            raise TargetConflict(f"{message.name}: it is a target of {', '.join(rules[:10])}: change these rules first")
        self._store(msgspec.structs.replace(target, version=target.version + 1, changed=self.now, deleted=True))
        return target

    @query
    async def get_target(self, message: GetTarget) -> Target:
        """Return a target."""
        return self._existing()

    @query
    async def list_targets(self, message: ListTargets) -> Page[Target]:
        """Return the targets in the order of their names."""
        return await self.list(deleted=message.deleted, limit=message.limit, after=message.page)

    async def _rules_of(self, target: str) -> list[str]:
        rules = await all_pages(lambda page: self.query(ListRules(page=page)))
        return [rule.name for rule in rules if target in [each.target for each in rule.targets]]

    def _pause(self, paused: bool) -> Target:
        target = self._existing()
        if target.paused is paused:
            return target
        return self._store(msgspec.structs.replace(target, version=target.version + 1, paused=paused, changed=self.now))

    def _store(self, target: Target) -> Target:
        self.state = target
        self.emit(TargetChanged(target.name, target))
        return target

    def _existing(self) -> Target:
        if self.state is None or self.state.deleted:
            raise NotFound(f"there is no target {self.key!r}")
        return self.state


def check_kind(kind: Kind) -> None:
    """Raise `TargetInvalid` if a setting of a kind of target is wrong."""
    match kind:
        case CommandKind():
            if not valid_name(kind.actor):
                raise TargetInvalid(f"to.actor: {kind.actor[:80]!r} is not the name of an actor")
            if not kind.command.isidentifier() or not valid_name(snake_case(kind.command)):
                raise TargetInvalid(
                    f"to.command: {kind.command[:80]!r} is not the name of a command, such as AddPoints"
                )
        case EventKind():
            actor, _, name = kind.type.rpartition(".")
            if not valid_name(actor) or not name.isidentifier():
                raise TargetInvalid(f"to.type: {kind.type[:80]!r} is not the type of an event, such as audit.EventSeen")
            if kind.namespace and not valid_namespace(kind.namespace):
                raise TargetInvalid(f"to.namespace: {kind.namespace[:80]!r} is not a namespace")
            if kind.key is not None:
                try:
                    compile_input(kind.key, where="to.key")
                except InputError as error:
                    raise TargetInvalid(str(error)) from None
        case HttpKind():
            if find_spec("aiohttp") is None:
                raise TargetInvalid("to.kind: HTTP targets need aiohttp: run `pip install actorloom[router]`")
            try:
                RequestForm(kind, where="to")
            except InputError as error:
                raise TargetInvalid(str(error)) from None
        case SubjectKind():
            _check_subject(kind.subject)
        case LogKind():
            if kind.level not in ("debug", "info", "warning", "error"):
                raise TargetInvalid(f"to.level: {kind.level[:80]!r}: use debug, info, warning or error")


def _check_subject(subject: str) -> None:
    """Raise `TargetInvalid` for what is no subject, and for one of the runtime or of the server."""
    plain = re.sub(r"\{(key|source|name)\}", "x", subject)
    if not _SUBJECT.fullmatch(plain) or "{" in plain or "}" in plain or len(subject) > 500:
        raise TargetInvalid(
            f"to.subject: {subject[:80]!r} is not a subject; of braces, it may have {{key}}, {{source}}, {{name}}"
        )
    tokens = plain.split(".")
    if tokens[0].startswith(_RESERVED) or KINDS.intersection(tokens):
        raise TargetInvalid(
            f"to.subject: {subject[:80]!r} belongs to the server or to actors: use a target of another kind for them"
        )


def _fields(target: TargetFields) -> dict[str, Any]:
    return {name: getattr(target, name) for name in TargetFields.__struct_fields__}


def _expect(target: Target | None, version: int | None, name: str) -> None:
    now = target.version if target is not None and not target.deleted else 0
    if version is not None and version != now:
        raise TargetConflict(f"{name}: version {version} is expected, and the target has version {now}")
