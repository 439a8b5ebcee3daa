"""The messages of the mailer, of the list of mail, and of the two actors to which the mailer reacts."""

from msgspec import Struct

from runtime import Command, Event, Page, Query


class RegisterUser(Command[None], actor="users"):
    user_id: str
    email: str


class UserRegistered(Event, actor="users", key="user_id"):
    user_id: str
    email: str


class PayOrder(Command[None], actor="orders"):
    order_id: str
    user_id: str
    email: str
    total: int


class OrderPaid(Event, actor="orders", key="order_id"):
    order_id: str
    user_id: str
    email: str
    total: int


class MailSent(Event, actor="mailer", key="mail_id"):
    mail_id: str
    user_id: str
    subject: str
    time: float


class Mail(Struct, frozen=True):
    mail_id: str
    user_id: str
    subject: str
    time: float


class ListMail(Query[Page[Mail]], actor="mail"):
    """The mail of a user, the newest first."""

    user_id: str
    limit: int = 20
    after: str | None = None
