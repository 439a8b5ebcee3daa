"""The actor ``rules``: it keeps the rules, each under its name, and emits each change."""

from collections.abc import Sequence
from typing import Any

import msgspec

from runtime.actor.base import Actor
from runtime.actor.decorators import command, query
from runtime.actor.indexes import Index, Page
from runtime.actor.patterns import compile_pattern
from runtime.client.bus import Bus
from runtime.errors import DeclarationError, NotFound
from runtime.options import Options
from runtime.router.contract_check import problems_of
from runtime.router.inputs import InputError, compile_input
from runtime.router.rule import (
    DeleteRule,
    DisableRule,
    EnableRule,
    GetRule,
    ListRules,
    PutRule,
    Rule,
    RuleChanged,
    RuleConflict,
    RuleFields,
    RuleInvalid,
)
from runtime.router.target import GetTarget, Target
from runtime.wire.ids import CLOCK_MARGIN


class Rules(Actor[Rule], indexes=[Index("deleted")]):
    """Rules: which events go to which targets."""

    name = "rules"
    options = Options(timeout=10.0)

    async def on_start(self) -> None:
        """Keep a bus, for the contracts of the actors that run."""
        self.bus = Bus.of(self)

    @command
    async def put_rule(self, message: PutRule) -> Rule:
        """Create or replace a rule."""
        _expect(self.state, message.expect, message.name)
        rule = message.rule
        check_rule(rule)
        targets = [await self._target(number, each.target) for number, each in enumerate(rule.targets)]
        if not message.unchecked and (problems := await problems_of(self.bus, rule, targets)):
            raise RuleInvalid(f"{message.name}: {'; '.join(problems)}")
        return self._store(rule, message.name)

    @command
    async def enable_rule(self, message: EnableRule) -> Rule:
        """Enable a rule. It matches events from then on."""
        return self._enable(message.expect, True)

    @command
    async def disable_rule(self, message: DisableRule) -> Rule:
        """Disable a rule. Events that are emitted meanwhile do not match it later."""
        return self._enable(message.expect, False)

    @command
    async def delete_rule(self, message: DeleteRule) -> Rule:
        """Delete a rule, and return it."""
        rule = self._existing(message.expect)
        self.state = msgspec.structs.replace(rule, version=rule.version + 1, changed=self.now, deleted=True)
        self.emit(RuleChanged(rule.name, self.state))
        return rule

    @query
    async def get_rule(self, message: GetRule) -> Rule:
        """Return a rule."""
        return self._existing(None)

    @query
    async def list_rules(self, message: ListRules) -> Page[Rule]:
        """Return the rules in the order of their names."""
        return await self.list(deleted=message.deleted, limit=message.limit, after=message.page)

    async def _target(self, number: int, name: str) -> Target:
        try:
            return await self.query(GetTarget(name))
        except NotFound:
            raise RuleInvalid(f"{self.key}: targets[{number}]: there is no target {name!r}: put it first") from None

    def _enable(self, expect: int | None, enabled: bool) -> Rule:
        rule = self._existing(expect)
        if rule.enabled is enabled:
            return rule
        fields: dict[str, Any] = {**_fields(rule), "enabled": enabled}
        return self._store(RuleFields(**fields), rule.name)

    def _existing(self, expect: int | None) -> Rule:
        rule = self.state
        if rule is None or rule.deleted:
            raise NotFound(f"there is no rule {self.key!r}")
        _expect(rule, expect, rule.name)
        return rule

    def _store(self, fields: RuleFields, name: str) -> Rule:
        """Leave a rule as the state, and emit its change. A rule that stays as it is keeps its version."""
        old = self.state
        if old is not None and not old.deleted and _encode(_fields(old)) == _encode(_fields(fields)):
            return old
        since = old.since if old is not None and old.enabled and not old.deleted else self.now - CLOCK_MARGIN
        version = 1 if old is None else old.version + 1
        rule = Rule(**_fields(fields), name=name, version=version, since=since, changed=self.now)
        self.state = rule
        self.emit(RuleChanged(name, rule))
        return rule


def check_rule(rule: RuleFields) -> None:
    """Raise `RuleInvalid` for a pattern, an input or a list of targets that is wrong by itself."""
    if rule.where is not None:
        try:
            compile_pattern(rule.where, "where")
        except DeclarationError as error:
            raise RuleInvalid(str(error)) from None
    _check_types(rule.types)
    names = [each.target for each in rule.targets]
    if len(set(names)) < len(names):
        raise RuleInvalid("targets: a target stands in the list twice")
    for number, each in enumerate(rule.targets):
        if each.input is None:
            continue
        try:
            compile_input(each.input, where=f"targets[{number}].input")
        except InputError as error:
            raise RuleInvalid(str(error)) from None


def _check_types(types: Sequence[str]) -> None:
    for number, each in enumerate(types):
        actor, _, name = each.rpartition(".")
        if not actor or not name.isidentifier():
            raise RuleInvalid(
                f"types[{number}]: {each[:80]!r} is not the type of an event, such as orders.OrderCreated"
            )


_encode = msgspec.json.Encoder(order="sorted").encode
"""Encodes fields for a comparison: to Python, true and 1 are equal, and to a pattern they are not."""


def _fields(rule: RuleFields) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in RuleFields.__struct_fields__}


def _expect(rule: Rule | None, version: int | None, name: str) -> None:
    now = rule.version if rule is not None and not rule.deleted else 0
    if version is not None and version != now:
        raise RuleConflict(f"{name}: version {version} is expected, and the rule has version {now}")
