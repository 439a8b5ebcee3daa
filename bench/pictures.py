"""Draws a report: throughput by in-flight, latency by load, the ladder and the peers, as SVG and PNG."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "actorloom"  # the same picture from the same figures

from matplotlib import pyplot as plt  # noqa: E402 - after the backend is chosen
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from bench.results import Measure, Report  # noqa: E402

_COLOURS = {
    "raw nats-py": "#777777",
    "actorloom": "#0b6e4f",
    "actorloom 1% sampled": "#3aa17e",
    "actorloom 100% traced": "#9bd1bd",
    "nats.go": "#d08700",
}


def draw(report: Report, folder: Path, stem: str) -> list[Path]:
    """Write what the report has figures for; return the files."""
    pictures = {"query": _query, "latency": _latency, "ladder": _ladder, "peers": _peers}
    written: list[Path] = []
    for name, make in pictures.items():
        measures = [measure for measure in report.measures if measure.question == name]
        if not measures:
            continue
        figure = make(measures)
        figure.text(0.99, 0.01, _origin(report), ha="right", va="bottom", fontsize=7, color="#777777")
        for kind in ("svg", "png"):
            path = folder / f"{stem}-{name}.{kind}"
            figure.savefig(path, dpi=150, metadata={"Date": None} if kind == "svg" else None)
            written.append(path)
        plt.close(figure)
    return written


def _query(measures: list[Measure]) -> Figure:
    settings = list(dict.fromkeys(measure.setting for measure in measures))
    figure, axes = _figure("Queries a second, both ends in Python", "requests in flight", "thousand a second")
    for contender in (name for name in _COLOURS if any(m.contender == name for m in measures)):
        values = [
            next((m.middle("rate") or 0) for m in measures if (m.setting, m.contender) == (setting, contender))
            for setting in settings
        ]
        label = "nats.go (both ends in Go)" if contender == "nats.go" else contender
        axes.plot(settings, [v / 1000 for v in values], marker="o", label=label, color=_COLOURS[contender])
    axes.set_xticks(range(len(settings)), [setting.removesuffix(" in flight") for setting in settings])
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def _latency(measures: list[Measure]) -> Figure:
    figure, axes = _figure("Latency from when a request was due, by load", "requests a second", "milliseconds")
    for contender in dict.fromkeys(measure.contender for measure in measures):
        own = [measure for measure in measures if measure.contender == contender]
        rates = [float(m.setting.rpartition(": ")[2].removesuffix("/s").replace(",", "")) for m in own]
        for metric, style in (("p50", "-"), ("p99", "--")):
            values = [(m.middle(metric) or 0) / 1000 for m in own]
            axes.plot(rates, values, style, marker="o", label=f"{contender}, {metric}", color=_COLOURS.get(contender))
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _ladder(measures: list[Measure]) -> Figure:
    return _bars(measures, "What each layer costs the actor", "CPU microseconds a message", "actor", 1.0)


def _peers(measures: list[Measure]) -> Figure:
    own = [measure for measure in measures if measure.setting == "64 in flight"]
    return _bars(own, "Queries a second by one process, load from nats.go", "thousand a second", "rate", 1000.0)


def _bars(measures: list[Measure], title: str, unit: str, metric: str, scale: float) -> Figure:
    figure, axes = _figure(title, unit, "")
    values = [(measure.middle(metric) or 0) / scale for measure in measures]
    colours = ["#0b6e4f" if "actorloom" in m.contender or m.contender[0] in "+o" else "#777777" for m in measures]
    bars = axes.barh([measure.contender for measure in measures], values, color=colours)
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    return figure


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0.04, 1, 0.96))  # type: ignore[union-attr] - room for the origin
    axes.set_title(title, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _origin(report: Report) -> str:
    machine, versions = report.machine, report.versions
    return f"{machine['cpu']}, {machine['cores']} cores, Python {versions['python']}, nats-server {versions['nats-server']}"
