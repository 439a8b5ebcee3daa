"""The rules that are in force in one process: a copy of those that the actor ``rules`` keeps, in an index."""

import asyncio
from typing import NamedTuple

from runtime.actor.any_event import AnyEvent
from runtime.client.bus import Bus
from runtime.router.following import Following, all_pages
from runtime.router.index import Index
from runtime.router.rule import ListRules, Rule, RuleChanged, RuleTarget


class Match(NamedTuple):
    """One target of a rule that matches an event."""

    rule: Rule
    target: RuleTarget


class Ruleset:
    """The rules in force.

    Args:
        bus: The bus.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._index = Index()
        self._rules: dict[str, Rule] = {}
        """All rules by name, disabled and deleted ones included."""
        self._applied = asyncio.Event()
        """Set at the next change; each wait has its own."""
        self._following = Following(bus, RuleChanged, self._load, lambda change: self.apply(change.rule))

    async def start(self) -> None:
        """Return when the rules are there, and follow their changes from then on."""
        await self._following.start()

    async def stop(self) -> None:
        """Follow the changes no more."""
        await self._following.stop()

    @property
    def doubtful(self) -> bool:
        """Whether rules may be missing, so that `confirm` reads them again."""
        return self._following.doubtful

    def doubt(self) -> None:
        """Take note that rules may be missing."""
        self._following.doubt()

    async def confirm(self) -> None:
        """Return when all rules are here whose changes were reported by now."""
        await self._following.confirm()

    def version(self, name: str) -> int:
        """Return the version of a rule that is in force; 0 if none was seen."""
        rule = self._rules.get(name)
        return 0 if rule is None else rule.version

    async def wait_version(self, name: str, version: int, timeout: float) -> int:
        """Return the version of a rule as soon as it is `version` or a later one, or the one after `timeout` seconds.

        The rules are read again then: a consumer whose node is gone is silent for some seconds. Raises the errors of a list.
        """
        try:
            async with asyncio.timeout(timeout):
                while self.version(name) < version:
                    await self._applied.wait()
        except TimeoutError:
            await self.confirm()
        return self.version(name)

    def matches(self, event: AnyEvent) -> list[Match]:
        """Return the targets of an event, in the order of the names of the rules, and of the targets in each rule."""
        found: list[Match] = []
        for name in sorted(self._index.match(event.type, event.data)):
            rule = self._rules[name]
            if event.stored >= rule.since and (not rule.sources or event.source in rule.sources):
                found += [Match(rule, target) for target in rule.targets]
        return found

    def get(self, name: str) -> Rule | None:
        """Return a rule that is in force; None if there is none, or it is disabled."""
        rule = self._rules.get(name)
        return rule if rule is not None and rule.enabled and not rule.deleted else None

    def apply(self, rule: Rule) -> None:
        """Put a rule in force. An older version of a rule that is here has no effect."""
        if rule.version <= self.version(rule.name):
            return
        was, self._rules[rule.name] = self.get(rule.name), rule
        if self.get(rule.name) is None:
            if was is not None:
                self._index.remove(rule.name)
        elif was is None:
            self._index.add(rule.name, rule.types, rule.where)
        else:
            self._index.replace(rule.name, rule.types, rule.where)
        self._applied.set()
        self._applied = asyncio.Event()

    async def _load(self) -> None:
        for deleted in (False, True):
            for rule in await all_pages(lambda page, deleted=deleted: self._bus.query(ListRules(deleted, page))):
                self.apply(rule)
