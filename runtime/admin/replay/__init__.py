"""Replay: stored events are sent again, to one reaction of one actor, or to targets of rules, and to nothing else.

`prepare` finds the reaction and its events, `Runner` sends them, and `cancel` ends a replay. Used from outside are the names
below, and `runtime.storage.replays`, the stored form of a replay. `runtime.router.replay` prepares replays to targets, and sends their
events. It also uses `reading` (the events in their order), `stretches` (of streams and archives) and `refusal`.

An event that is replayed to a reaction goes the way of a redriven dead letter (`runtime.storage.dead_letters`): to a subject that only
this actor consumes, from where the reaction that the message names runs it in the lane of its key, with retries, and as a dead letter
after the last one. It is deleted when it is handled.

- **Order.** The events of one stream are sent in its order, and those of several by their time. Each is acknowledged before
  the next one is sent: with several on their way, a change of the stream's leader could store a later one and lose an earlier one.
- **Once in effect.** The ids depend on the event and, in the mode ``again``, on the name of the replay. A command that was
  killed sends the events of its last second again. The stream drops them within its duplicate window, and the actor recognizes
  later ones as handled.
- **Bounds.** The command sends so many events a second at most, and waits while the actor has not handled those before. So a
  cancel finds few events that wait, and a dead letter that somebody redrives does not wait for long.
"""

from runtime.admin.replay.cancelling import cancel
from runtime.admin.replay.planning import Plan, Request, prepare
from runtime.admin.replay.refusal import NotFound, Refused
from runtime.admin.replay.running import Runner, begin, take_over
from runtime.admin.replay.sending import ToReaction, Way

__all__ = [
    "NotFound",
    "Plan",
    "Refused",
    "Request",
    "Runner",
    "ToReaction",
    "Way",
    "begin",
    "cancel",
    "prepare",
    "take_over",
]
