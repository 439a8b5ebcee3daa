"""Rules and targets as data: which events go to which targets, changed while everything runs.

``actorloom run runtime.router`` serves the actors of this room:

- `Rules` keeps the rules, one for each key: which events a rule matches, and to which targets they go (`rule`, `rules`).
- `Targets` keeps the targets: a command, an event, an HTTP endpoint, a subject or the log (`target`, `targets`). It serves an actor for
  each target (`hosting`, `delivery`), so that a target that is down delays no other.
- `Router` receives the events of all actors, and tells the target of each rule that matches (`routing`, `ruleset`).

The messages, `wait_in_force` and `replay_since` are for applications. Tools use `files` (rules and targets in files, and what they change), `in_force` (waits until a change of a rule is in force) and `verdict`
(whether a rule matches an event, why not, and the inputs of its targets). `contract_check` compares a rule with the contracts of the
running actors. `replay` sends stored events to the targets of rules again, and `edges` are the rules in a graph of services.
"""

from runtime.router.in_force import wait_in_force
from runtime.router.replay import replay_since
from runtime.router.routing import GetInForce, Router
from runtime.router.rule import (
    DeleteRule,
    DisableRule,
    EnableRule,
    GetRule,
    ListRules,
    PutRule,
    Rule,
    RuleChanged,
    RuleConflict,
    RuleFields,
    RuleInvalid,
    RuleTarget,
)
from runtime.router.rules import Rules
from runtime.router.target import (
    CommandKind,
    DeleteTarget,
    EventKind,
    GetTarget,
    HttpKind,
    ListTargets,
    LogKind,
    PauseTarget,
    PutTarget,
    ResumeTarget,
    SubjectKind,
    Target,
    TargetChanged,
    TargetConflict,
    TargetFields,
    TargetInvalid,
)
from runtime.router.targets import Targets

__all__ = [
    "CommandKind",
    "DeleteRule",
    "DeleteTarget",
    "DisableRule",
    "EnableRule",
    "EventKind",
    "GetInForce",
    "GetRule",
    "GetTarget",
    "HttpKind",
    "ListRules",
    "ListTargets",
    "LogKind",
    "PauseTarget",
    "PutRule",
    "PutTarget",
    "ResumeTarget",
    "Router",
    "Rule",
    "RuleChanged",
    "RuleConflict",
    "RuleFields",
    "RuleInvalid",
    "RuleTarget",
    "Rules",
    "SubjectKind",
    "Target",
    "TargetChanged",
    "TargetConflict",
    "TargetFields",
    "TargetInvalid",
    "Targets",
    "replay_since",
    "wait_in_force",
]
