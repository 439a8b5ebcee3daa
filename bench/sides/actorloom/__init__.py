"""Actorloom as a user writes it: actors served by `running`, and callers with a bus. One module per verb."""

from bench.sides.actorloom.actors import Accounts, GetQuote, Pricing
from bench.sides.actorloom.call import caller
from bench.sides.actorloom.publish import publisher
from bench.sides.actorloom.react import reactor
from bench.sides.actorloom.serve import ActorSide, actor
from bench.sides.actorloom.start import starter

__all__ = ["Accounts", "ActorSide", "GetQuote", "Pricing", "actor", "caller", "publisher", "reactor", "starter"]
