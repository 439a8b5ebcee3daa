"""The two actors whose events are a reason for mail. They do not know the mailer."""

from runtime import Actor, command

from .messages import OrderPaid, PayOrder, RegisterUser, UserRegistered


class Users(Actor):
    """Registers users."""

    name = "users"

    @command
    async def register_user(self, message: RegisterUser) -> None:
        self.emit(UserRegistered.of(message))


class Orders(Actor):
    """Takes payments."""

    name = "orders"

    @command
    async def pay_order(self, message: PayOrder) -> None:
        self.emit(OrderPaid.of(message))
