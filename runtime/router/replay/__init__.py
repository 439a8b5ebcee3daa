"""Replays to targets of rules: stored events are matched by the rules that somebody names, and sent to their targets again.

`prepare` finds the rules and the events, and counts the deliveries. `ToTargets` sends them for `runtime.admin.replay.Runner`, which keeps
the order, the rate and the position. `replay_since` closes the gap before a rule.

- **Only what is named.** Other rules and targets notice nothing. The rules are those of the time at which the replay is prepared, and
  may be disabled. Their `since` does not count: the replay has a stretch of its own.
- **Once in effect.** In the mode ``missing``, a delivery has the id that it has live, so what was delivered within the time for which
  the actor of the target remembers ids is not delivered again. In the mode ``again``, the name of the replay is part of the id.
- **Order.** The deliveries of a key to a target are stored one after the other, in the order of the events. Live ones go between them.
"""

from runtime.router.replay.planning import Count, Plan, Request, prepare, prepare_rules, refuse_forgotten
from runtime.router.replay.sending import ToTargets
from runtime.router.replay.since import replay_since

__all__ = ["Count", "Plan", "Request", "ToTargets", "prepare", "prepare_rules", "refuse_forgotten", "replay_since"]
