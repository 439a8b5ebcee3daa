"""Raw nats-py as its documentation advises: callbacks, `request`, `js.publish` and `fetch`, with msgspec. One module per verb."""

from bench.sides.raw.call import caller
from bench.sides.raw.publish import publisher
from bench.sides.raw.react import reactor
from bench.sides.raw.serve import micro, pricing
from bench.sides.raw.turn import accounts

__all__ = ["accounts", "caller", "micro", "pricing", "publisher", "reactor"]
