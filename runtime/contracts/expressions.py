"""The expressions of dashboards and alerts in PromQL, over the metrics that the health port of a process serves.

A Prometheus server adds labels of its own (`job`, `instance`), and a process with several workers `worker`. All expressions sum
them up. The runtime names an actor in the label `service_name`.
"""

from collections.abc import Iterable
from typing import Final

REQUESTS: Final = "rpc_server_call_duration_seconds"
MESSAGES: Final = "messaging_process_duration_seconds"
PUBLISHED: Final = "messaging_client_sent_messages_total"
LAG: Final = "actorloom_consumer_lag"
OWNED: Final = "actorloom_partitions_owned"
PARTITIONS: Final = "actorloom_partitions"
WAITING: Final = "actorloom_messages_waiting"
BLOCKED: Final = "actorloom_keys_blocked"
DEAD_LETTERS: Final = "actorloom_dead_letters_stored_total"
REFUSED: Final = "actorloom_permissions_refused"

METHOD: Final = "rpc_method"
TEMPLATE: Final = "messaging_destination_template"
STREAM: Final = "actorloom_stream_name"
SERVICE: Final = "service_name"

PANEL: Final = "$__rate_interval"
"""The window of a rate in a panel: Grafana chooses it by the width of the graph and the interval of the scrapes."""

_FAILED: Final = 'rpc_response_status_code=~"5.."'
_OVERLOADED: Final = 'error_type="429"'


def selected(metric: str, actors: str | Iterable[str], *more: str) -> str:
    """Return the selector of the series of one actor, or of several.

    Args:
        metric: The name of the metric.
        actors: The name of an actor, or those of several.
        more: Further matchers of labels.
    """
    names = actors if isinstance(actors, str) else "|".join(actors)
    own = f'{SERVICE}="{names}"' if isinstance(actors, str) else f'{SERVICE}=~"{names}"'
    return f"{metric}{{{','.join((own, *more))}}}"


def rate(histogram: str, actors: str | Iterable[str], window: str, by: str, *more: str) -> str:
    """Return how many durations of a histogram were recorded a second, by a label."""
    return f"sum by ({by}) (rate({selected(f'{histogram}_count', actors, *more)}[{window}]))"


def quantile(histogram: str, actors: str | Iterable[str], window: str, by: str, share: float) -> str:
    """Return a quantile of the durations of a histogram in seconds, by a label."""
    buckets = f"sum by (le, {by}) (rate({selected(f'{histogram}_bucket', actors)}[{window}]))"
    return f"histogram_quantile({share:g}, {buckets})"


def error_ratio(actors: str | Iterable[str], window: str) -> str:
    """Return the share of requests that failed with a code of 500 or more, by actor."""
    return f"{rate(REQUESTS, actors, window, SERVICE, _FAILED)} / ({rate(REQUESTS, actors, window, SERVICE)} > 0)"


def failure_ratio(actors: str | Iterable[str], window: str) -> str:
    """Return the share of attempts at events, timers and commands by `tell` that failed, by actor."""
    failed = rate(MESSAGES, actors, window, SERVICE, 'error_type!=""')
    return f"{failed} / ({rate(MESSAGES, actors, window, SERVICE)} > 0)"


def refused(actors: str | Iterable[str], window: str) -> str:
    """Return the requests a second that were refused with 429, by actor."""
    return rate(REQUESTS, actors, window, SERVICE, _OVERLOADED)


def lag(actor: str, keyed: bool) -> str:
    """Return the messages that wait for an actor, by stream.

    Each process of an actor with state has consumers of its own. All processes of one without state share them, and report the
    same number.
    """
    return f"{'sum' if keyed else 'max'} by ({STREAM}) ({selected(LAG, actor)})"


def published(template: str, window: str) -> str:
    """Return how many events were published in a window on subjects such as ``orders.event.order_created.{key}``."""
    value = template.replace("\\", "\\\\").replace('"', '\\"')
    matchers = f'{TEMPLATE}="{value}",error_type=""'
    return f"sum(increase({PUBLISHED}{{{matchers}}}[{window}]))"


def dead_letters(actors: str | Iterable[str], window: str) -> str:
    """Return how many messages became dead letters in a window, by actor."""
    return f"sum by ({SERVICE}) (increase({selected(DEAD_LETTERS, actors)}[{window}]))"


def total(gauge: str, actors: str | Iterable[str]) -> str:
    """Return the sum of a gauge over all processes, by actor."""
    return f"sum by ({SERVICE}) ({selected(gauge, actors)})"


def largest(gauge: str, actors: str | Iterable[str]) -> str:
    """Return the largest value of a gauge in a process, by actor."""
    return f"max by ({SERVICE}) ({selected(gauge, actors)})"
