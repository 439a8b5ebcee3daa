"""The scenarios, one module each group; all are listed in `ALL`."""

from tests.chaos.cell import Scenario

from .cluster import cluster_leaders, cluster_rolling
from .controls import control_check, control_deduplication
from .drains import drain
from .kills import random_kills, steps
from .overloads import overload
from .owners import race, zombie
from .poisons import poison
from .shop import shop, shop_steps
from .silences import silence
from .soak import soak
from .wire import wire

ALL: dict[str, Scenario] = {
    "steps": steps,
    "kills": random_kills,
    "control-deduplication": control_deduplication,
    "control-check": control_check,
    "race": race,
    "zombie": zombie,
    "drain": drain,
    "silence": silence,
    "wire": wire,
    "shop": shop,
    "shop-steps": shop_steps,
    "overload": overload,
    "poison": poison,
    "cluster-leaders": cluster_leaders,
    "cluster-rolling": cluster_rolling,
    "soak": soak,
}
