"""Mailer: mail for the events of other actors, by a service that speaks HTTP and may fail, and a list of the mail.

    MAIL_URL=http://127.0.0.1:8025/mail actorloom run examples.mailer    # and in another terminal:
    actorloom command users.register_user user_id=ann email=ann@example.org
    actorloom query mail.list_mail user_id=ann
    actorloom dlq ls --service mailer
    actorloom replay start mail.on_mail_sent --since first --mode again

tests/examples/test_mailer.py has its tests.
"""
