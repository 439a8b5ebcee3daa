"""The mail that was sent: a read model of the events of the mailer."""

from runtime import Actor, Index, Page, query, react

from .messages import ListMail, Mail, MailSent


class MailList(Actor[Mail], indexes=[Index("user_id", order="time")]):
    """Lists the mail of each user."""

    name = "mail"

    # The new state depends on the event alone, so `actorloom replay --mode again` rebuilds the model.
    @react
    async def on_mail_sent(self, event: MailSent) -> None:
        self.state = Mail(event.mail_id, event.user_id, event.subject, event.time)

    @query
    async def list_mail(self, message: ListMail) -> Page[Mail]:
        return await self.list(user_id=message.user_id, order="-time", limit=message.limit, after=message.after)
