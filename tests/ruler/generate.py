"""Random patterns and events over few names and values, so that a good part of the pairs match."""

from random import Random
from typing import Any

NAMES = ("a", "b", "c", "a.b", "b.c", "a-b", "$or", "prefix")
LETTERS = (
    "",
    "s",
    "S",
    "ss",
    "SS",
    "ſ",
    "ß",
    "xß",
    "fi",
    "ﬁ",
    "FI",
    "σ",
    "ς",
    "Σ",
    "ı",
    "I",
    "i",
    "İ",
    "K",
    "k",
    "a*",
    "\\",
)
ADDRESSES = (
    "10.0.0.1", "10.0.0.15", "10.255.0.0", "010.0.0.1", "10.0.0.256", "192.168.1.9", "::1", "0:0:0:0:0:0:0:1", "::ffff:a00:1",
    "2001:db8::", "2001:DB8:0::f", "2001:db9::1", "1::2::3", ":1", "fe80::1:",
)  # fmt: skip
BLOCKS = (
    "10.0.0.0/8", "10.0.0.0/31", "10.0.0.1/32", "10.0.0.8/29", "192.168.0.0/16", "2001:db8::/32", "::1/127",
    "::1/128", "::ffff:a00:0/8", "::ffff:a00:0/104", "10.0.0.0", "10.0.0/8", "10.0.0.0/-1", "x/8", "10.0.0.300/8",
)  # fmt: skip
NUMBERS = (
    0, 1, 1.0, 2, -1, 0.5, 1e-300, 300, 1e3, 1000, 2**53, 2**53 + 1, 2**53 + 2, float(2**53), 2**60, 10**17, 1e17, 10**30, 2**63,
)  # fmt: skip
WILDCARDS = ("*", "a*", "*s", "s*s", "*s*", "**", "a\\*", "\\s", "\\\\", "*\\*", "s", "", "x*ß", "*a*b*")
SIGNS = ("<", "<=", "=", ">=", ">", "!=")


class Generator:
    """Generates pairs from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def pair(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a pattern and an event."""
        return self.pattern(), self.event(3)

    def arrays(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a pattern and an event with few names and values, but with many arrays in each other."""
        return self._small_pattern(2), self._small_object(3)

    def _small_pattern(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in self.random.sample("abc", self.random.choice((1, 2, 2, 3))):
            if depth and self.random.random() < 0.6:
                found[name] = self._small_pattern(depth - 1)
            else:
                found[name] = self.random.sample(
                    [0, 1, {"exists": True}, {"exists": False}], self.random.choice((1, 1, 2))
                )
        if depth and self.random.random() < 0.2:
            found["$or"] = [self._small_pattern(depth - 1) for _ in range(2)]
        return found

    def _small_object(self, depth: int) -> dict[str, Any]:
        return {name: self._small_value(depth) for name in self.random.sample("abc", self.random.choice((1, 2, 3)))}

    def _small_value(self, depth: int) -> Any:
        kind = self.random.random() if depth else 1.0
        if kind < 0.2:
            return self._small_object(depth - 1)
        if kind < 0.6:
            return [self._small_element(depth - 1) for _ in range(self.random.choice((1, 2, 3, 4)))]
        return self.random.choice((0, 1, 2))

    def _small_element(self, depth: int) -> Any:
        return self._small_object(depth) if self.random.random() < 0.7 else self._small_value(depth)

    def text(self) -> str:
        if self.random.random() < 0.25:
            return self.random.choice(ADDRESSES)
        return "".join(self.random.choices(LETTERS, k=self.random.choice((1, 1, 1, 2))))

    def leaf(self) -> object:
        return self.random.choice((self.text, self.text, self.number, self.number, self.constant))()

    def constant(self) -> object:
        return self.random.choice((True, False, None))

    def number(self) -> float:
        return self.random.choice(NUMBERS[:8] if self.random.random() < 0.7 else NUMBERS)

    def event(self, depth: int) -> dict[str, Any]:
        names = self.random.sample(NAMES[:6], self.random.choice((1, 2, 2, 3)))
        return {name: self.value(depth) for name in names}

    def value(self, depth: int) -> Any:
        kind = self.random.random() if depth else 1.0
        if kind < 0.3:
            return self.event(depth - 1)
        if kind < 0.6:
            return [self.value(depth - 1) for _ in range(self.random.choice((0, 1, 2, 2, 3)))]
        return self.leaf()

    def pattern(self, depth: int = 2, *, in_or: bool = False) -> dict[str, Any]:
        names = self.random.sample(NAMES[:6], self.random.choice((1, 1, 2, 3)))
        if self.random.random() < 0.05:
            names.append("prefix")
        found = {name: self.field(depth) for name in names}
        if depth and self.random.random() < 0.2:
            found["$or"] = [self.pattern(depth - 1) for _ in range(self.random.choice((1, 2, 2, 2, 3)))]
        return found

    def field(self, depth: int) -> Any:
        if depth and self.random.random() < 0.5:
            return self.pattern(depth - 1)
        return [self.matcher() for _ in range(self.random.choice((1, 1, 1, 2, 3)))]

    def matcher(self) -> object:
        if self.random.random() < 0.3:
            return self.leaf()
        if self.random.random() < 0.3:
            return {"exists": self.random.choice((True, False, False))}
        return self.random.choice(
            (self.affix, self.affix, self.anything_but, self.anything_but, self.numeric, self.numeric, self.other)
        )()

    def affix(self) -> object:
        name = self.random.choice(("prefix", "suffix", "equals-ignore-case"))
        text = self.text()
        if name != "equals-ignore-case" and self.random.random() < 0.4:
            return {name: {"equals-ignore-case": text}}
        return {name: text}

    def anything_but(self) -> object:
        kind = self.random.choice(("", "", "prefix", "suffix", "wildcard", "equals-ignore-case", "numeric"))
        make = self.wildcard if kind == "wildcard" else self.text
        if not kind:
            make = self.random.choice((self.text, self.number, self.leaf))
        several = self.random.random() < 0.5
        operand: Any = [make() for _ in range(self.random.choice((1, 2)))] if several else make()
        return {"anything-but": {kind: operand} if kind else operand}

    def numeric(self) -> object:
        signs = self.random.choice((SIGNS, SIGNS, (">", ">="), ("<", "<=")))
        first = [self.random.choice(signs), self.number()]
        if self.random.random() < 0.5:
            return {"numeric": first}
        return {
            "numeric": [self.random.choice((">", ">=")), self.number(), self.random.choice(("<", "<=")), self.number()]
        }

    def wildcard(self) -> str:
        return self.random.choice(WILDCARDS)

    def other(self) -> object:
        return self.random.choice(
            (
                {"wildcard": self.wildcard()},
                {"cidr": self.random.choice(BLOCKS)},
                {"exactly": self.text()},
                {"unknown": 1},
                {"prefix": "a", "suffix": "b"},
            )
        )
