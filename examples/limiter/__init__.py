"""Limiter: requests that each client may make in a minute, and a report of each minute.

    actorloom run examples.limiter    # and in another terminal:
    actorloom command limiter.take client=ann
    actorloom query limiter.list_heaviest
    nats sub 'limiter.event.minute_reported.*'

tests/examples/test_limiter.py has its tests.
"""
