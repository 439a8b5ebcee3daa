"""Customers who send money from one account to another all the time, so that events of one key act on another key.

The deposits of an account that gets money by events alone show the order in which the events took effect.
"""

import asyncio
import random

from runtime.wire.buckets import partition_of
from runtime.wire.tokens import key_token
from tests.chaos.bank import Deposit, Send
from tests.chaos.depositors import Depositors
from tests.chaos.history import Operation

_WEALTH = 1_000_000
"""Money of a sender. So it never has too little."""
_PAUSE = 0.04
"""Average seconds between two commands of a sender."""


class Pair:
    """An account that sends money, and one of another partition that gets it."""

    def __init__(self, source: str, target: str) -> None:
        self.source = source
        self.target = target


def open_pairs(customers: Depositors, count: int, partitions: int) -> list[Pair]:
    """Open accounts for so many senders. The accounts of a pair are in different partitions, if there are several."""
    pairs: list[Pair] = []
    for _ in range(count):
        source = customers.open()
        while partitions > 1 and _partition(customers.next_account(), partitions) == _partition(source, partitions):
            customers.open()
        pairs.append(Pair(source, customers.open()))
    return pairs


def start_senders(customers: Depositors, pairs: list[Pair]) -> None:
    """Start a customer for each pair, who sends money until the customers are stopped."""
    for pair in pairs:
        customers.add(_send(customers, pair, customers.random()))


async def _send(customers: Depositors, pair: Pair, rng: random.Random) -> None:
    first = Operation("deposit", pair.source, 0.0, customers.new_id(), _WEALTH)
    await customers.move(first, Deposit(pair.source, _WEALTH), patient=customers.crowd.timeout)
    while not customers.stopping:
        amount = rng.randint(1, 60)
        operation = Operation("send", pair.source, 0.0, customers.new_id(), amount, pair.target)
        await customers.move(operation, Send(pair.source, amount, pair.target), patient=customers.crowd.timeout)
        await asyncio.sleep(rng.uniform(0.0, 2 * _PAUSE))


def _partition(account: str, partitions: int) -> int:
    return partition_of(key_token(account), partitions)
