"""The messages of `bench.work` as queries, commands and events, and the two actors that handle them."""

from bench.work import Account, Line, Quote, deposit, quote
from runtime import Actor, Command, Event, Options, Query, command, query


class GetQuote(Query[Quote], actor="pricing"):
    """`work.QuoteRequest` as a query."""

    order_id: str
    customer: str
    street: str
    city: str
    lines: tuple[Line, ...]


class MakeQuote(Command[Quote], actor="pricing"):
    """`work.QuoteRequest` as a command, which runs in a turn."""

    order_id: str
    customer: str
    street: str
    city: str
    lines: tuple[Line, ...]


class MakeDeposit(Command[Account], actor="accounts", key="account"):
    """`work.Deposit` as a command."""

    account: str
    amount: int


class GetAccount(Query[Account], actor="accounts", key="account"):
    """Returns the state of one account."""

    account: str


class Deposited(Event, actor="accounts", key="account"):
    """`work.Deposited` as an event."""

    account: str
    amount: int
    balance: int


class Pricing(Actor):
    """An actor without state that answers quotes."""

    name = "pricing"

    @query
    async def get_quote(self, message: GetQuote) -> Quote:
        """Price an order."""
        return quote(message)  # type: ignore[arg-type] - it has the same fields

    @command
    async def make_quote(self, message: MakeQuote) -> Quote:
        """Price an order in a turn that stores nothing, because the command has no id."""
        return quote(message)  # type: ignore[arg-type] - it has the same fields


class Accounts(Actor[Account]):
    """An actor that keeps one account per key."""

    name = "accounts"
    options = Options(resident=2_000_000, idle=3600.0)

    @command
    async def make_deposit(self, message: MakeDeposit) -> Account:
        """Change the account and emit one event, in a durable turn."""
        self.state = state = deposit(self.state, message)  # type: ignore[arg-type]
        self.emit(Deposited(message.account, message.amount, state.balance))
        return state

    @query
    async def get_account(self, message: GetAccount) -> Account:
        """Return the account, or an empty one."""
        return self.state or Account(message.account, 0, 0)
