"""The scenarios, one module per group of faults. `ALL` lists them by name."""

from tests.chaos.cell import Scenario
from tests.chaos.scenarios.bank import (
    bank_cuts,
    bank_held_commits,
    bank_kills,
    bank_late_commits,
    bank_pauses,
    bank_suspended,
)
from tests.chaos.scenarios.bank_controls import (
    control_bank_clock,
    control_bank_effects,
    control_bank_fence,
    control_bank_lease,
    control_bank_owns,
)
from tests.chaos.scenarios.bank_mix import bank_handovers, bank_mix, cluster_bank
from tests.chaos.scenarios.bank_storage import bank_disk, bank_leases, bank_refused, bank_restore, bank_rollback
from tests.chaos.scenarios.cluster import cluster_leaders, cluster_rolling, cluster_start, on_three_nodes
from tests.chaos.scenarios.controls import (
    control_check,
    control_clocks,
    control_dead_letters,
    control_deadlines,
    control_dedup_entries,
    control_deduplication,
    control_lane,
    control_recovery,
    control_reset,
    control_survival,
    control_sweep,
    control_timers,
)
from tests.chaos.scenarios.cycles import call_cycles
from tests.chaos.scenarios.deadlines import deadlines
from tests.chaos.scenarios.drains import drain
from tests.chaos.scenarios.exits import exits
from tests.chaos.scenarios.hand_ons import control_hand_on, hand_ons
from tests.chaos.scenarios.handovers import control_handover, control_held_keys, handover
from tests.chaos.scenarios.kills import random_kills, steps
from tests.chaos.scenarios.overloads import overload
from tests.chaos.scenarios.owners import race, zombie
from tests.chaos.scenarios.partition_controls import control_lists, control_placement
from tests.chaos.scenarios.partitions import (
    partitions,
    partitions_churn,
    partitions_cuts,
    partitions_rolling,
    partitions_strangers,
    partitions_views,
)
from tests.chaos.scenarios.poisons import dead_letters, pauses_failing, poison
from tests.chaos.scenarios.recoveries import recovery, sweep
from tests.chaos.scenarios.repartitions import repartitions
from tests.chaos.scenarios.rules import control_rules, partition_rules, paused_rules, replay_rules, rules
from tests.chaos.scenarios.shop import shop, shop_steps
from tests.chaos.scenarios.silences import silence
from tests.chaos.scenarios.soak import soak
from tests.chaos.scenarios.tells import partition_tells, tells
from tests.chaos.scenarios.timers import partition_timers, paused_timers, raced_timers, timers
from tests.chaos.scenarios.wire import wire
from tests.chaos.scenarios.workers import workers

ALL: dict[str, Scenario] = {
    "steps": steps,
    "kills": random_kills,
    "control-deduplication": control_deduplication,
    "control-check": control_check,
    "control-dedup-entries": control_dedup_entries,
    "control-reset": control_reset,
    "control-lane": control_lane,
    "control-dead-letters": control_dead_letters,
    "control-recovery": control_recovery,
    "control-sweep": control_sweep,
    "control-timers": control_timers,
    "control-survival": control_survival,
    "control-deadlines": control_deadlines,
    "control-clocks": control_clocks,
    "control-rules": control_rules,
    "control-handover": control_handover,
    "control-held-keys": control_held_keys,
    "recovery": recovery,
    "sweep": sweep,
    "timers": timers,
    "tells": tells,
    "partition-tells": partition_tells,
    "rules": rules,
    "paused-rules": paused_rules,
    "partition-rules": partition_rules,
    "replay-rules": replay_rules,
    "paused-timers": paused_timers,
    "raced-timers": raced_timers,
    "deadlines": deadlines,
    "race": race,
    "zombie": zombie,
    "drain": drain,
    "handover": handover,
    "call-cycles": call_cycles,
    "exits": exits,
    "silence": silence,
    "wire": wire,
    "shop": shop,
    "shop-steps": shop_steps,
    "overload": overload,
    "poison": poison,
    "pauses-failing": pauses_failing,
    "dead-letters": dead_letters,
    "bank-pauses": bank_pauses,
    "bank-suspended": bank_suspended,
    "bank-held-commits": bank_held_commits,
    "bank-late-commits": bank_late_commits,
    "bank-cuts": bank_cuts,
    "bank-kills": bank_kills,
    "bank-leases": bank_leases,
    "bank-refused": bank_refused,
    "bank-disk": bank_disk,
    "bank-restore": bank_restore,
    "bank-rollback": bank_rollback,
    "bank-handovers": bank_handovers,
    "bank-mix": bank_mix,
    "partitions": partitions,
    "partitions-churn": partitions_churn,
    "partitions-rolling": partitions_rolling,
    "partitions-views": partitions_views,
    "partitions-cuts": partitions_cuts,
    "partitions-strangers": partitions_strangers,
    "partition-timers": partition_timers,
    "repartitions": repartitions,
    "hand-ons": hand_ons,
    "workers": workers,
    "control-placement": control_placement,
    "control-lists": control_lists,
    "control-hand-on": control_hand_on,
    "control-bank-fence": control_bank_fence,
    "control-bank-owns": control_bank_owns,
    "control-bank-clock": control_bank_clock,
    "control-bank-effects": control_bank_effects,
    "control-bank-lease": control_bank_lease,
    "cluster-leaders": cluster_leaders,
    "cluster-rolling": cluster_rolling,
    "cluster-start": cluster_start,
    "cluster-recovery": on_three_nodes(recovery),
    "cluster-sweep": on_three_nodes(sweep),
    "cluster-timers": on_three_nodes(timers),
    "cluster-tells": on_three_nodes(tells),
    "cluster-rules": on_three_nodes(rules),
    "cluster-paused-rules": on_three_nodes(paused_rules),
    "cluster-partition-rules": on_three_nodes(partition_rules),
    "cluster-replay-rules": on_three_nodes(replay_rules),
    "cluster-raced-timers": on_three_nodes(raced_timers),
    "cluster-dead-letters": on_three_nodes(dead_letters),
    "cluster-handover": on_three_nodes(handover),
    "cluster-bank": cluster_bank,
    "cluster-partitions": on_three_nodes(partitions),
    "cluster-partitions-churn": on_three_nodes(partitions_churn),
    "cluster-hand-ons": on_three_nodes(hand_ons),
    "cluster-repartitions": on_three_nodes(repartitions),
    "soak": soak,
}
