"""Rules and targets as data: which events go to which targets, changed while everything runs.

``actorloom run runtime.router`` serves the actors of this room:

- `Rules` keeps the rules, one for each key: which events a rule matches, and to which targets they go (`rule`, `rules`).
- `Targets` keeps the targets: a command, an event, an HTTP endpoint, a subject or the log (`target`, `targets`). It serves an actor for
  each target (`hosting`, `delivery`), so that a target that is down delays no other.
- `Router` receives the events of all actors, and tells the target of each rule that matches (`routing`, `ruleset`).

Tools use `files` (rules and targets in files, and what they change), `in_force` (waits until a change of a rule is in force) and `verdict`
(whether a rule matches an event, why not, and the inputs of its targets). `contract_check` compares a rule with the contracts of the
running actors. `replay` sends stored events to the targets of rules again, and `edges` are the rules in a graph of services.
"""

from runtime.router.routing import Router
from runtime.router.rules import Rules
from runtime.router.targets import Targets

__all__ = ["Router", "Rules", "Targets"]
