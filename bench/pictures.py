"""Draws a report as SVG and PNG: throughput by requests in flight and by processes, latency by rate, the ladder, the peers."""

from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "actorloom"  # the same figures give the same file

from matplotlib import pyplot as plt  # noqa: E402 - the backend must be chosen first
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import LogLocator  # noqa: E402

from bench import scale  # noqa: E402
from bench.results import Measure, Report  # noqa: E402

_OURS, _OTHERS = "#0b6e4f", "#8a8a8a"
_LINES = {
    "raw nats-py": ("#444444", "X"),
    "actorloom": (_OURS, "o"),
    "actorloom 1% sampled": ("#2fa87f", "s"),
    "actorloom 100% traced": ("#7b3fa0", "^"),
    "nats.go": ("#d08700", "D"),
    "nats.js": ("#4a7fc1", "v"),
}
"""Color and marker of each line. The markers differ, so that the lines can be distinguished without color."""

_PERCENTILES = ("p50", "p90", "p99", "p99.9")


def draw(report: Report, folder: Path, stem: str) -> list[Path]:
    """Draw every picture for which the report has figures, and return the paths.

    The files are named ``<stem>-<question>.svg`` and ``.png``.
    """
    pictures = {"query": _query, "latency": _latency, "ladder": _ladder, "peers": _peers, "scale": _scale}
    written: list[Path] = []
    for name, make in pictures.items():
        measures = [measure for measure in report.measures if measure.question == name]
        figure = make(measures) if measures else None
        if figure is None:
            continue
        figure.text(0.99, 0.01, _origin(report), ha="right", va="bottom", fontsize=7, color="#777777")
        for kind in ("svg", "png"):
            path = folder / f"{stem}-{name}.{kind}"
            figure.savefig(path, dpi=150, metadata={"Date": None} if kind == "svg" else None)
            written.append(path)
        plt.close(figure)
    return written


def _query(measures: list[Measure]) -> Figure:
    settings = list(dict.fromkeys(measure.setting for measure in measures))
    figure, (axes,) = _figure("Queries a second, both ends by the same library", "requests in flight", 1)
    for number, (contender, (color, marker)) in enumerate(_LINES.items()):
        found = [measure for measure in measures if measure.contender == contender]
        if not found:
            continue
        # A small offset, so that error bars do not hide each other.
        at = [settings.index(measure.setting) + (number - len(_LINES) / 2) / 40 for measure in found]
        axes.errorbar(at, *_spread(found, "rate", 1000), marker=marker, capsize=3, label=contender, color=color)
    axes.set_xticks(range(len(settings)), [setting.removesuffix(" in flight") for setting in settings])
    axes.set_ylabel("thousand a second (lines: lowest to highest round)", fontsize=9)
    axes.set_yscale("log")  # equal ratios have equal distances
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y", color="#e5e5e5")
    axes.legend(frameon=False)
    return figure


def _latency(measures: list[Measure]) -> Figure:
    title = "Latency at a fixed rate, from the time a request was due"
    figure, panels = _figure(title, "thousand a second", len(_PERCENTILES))
    for axes, percentile in zip(panels, _PERCENTILES, strict=True):
        for contender, (color, marker) in _LINES.items():
            own = [measure for measure in measures if measure.contender == contender]
            rates = [(measure.median("asked") or 0) / 1000 for measure in own]
            values = [(measure.median(percentile) or 0) / 1000 for measure in own]
            if own:
                axes.plot(rates, values, marker=marker, label=contender, color=color)
        axes.set_title(percentile, fontsize=10)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g} ms")
        axes.grid(axis="y", color="#e5e5e5")
        axes.set_xlim(left=0)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(_LINES), frameon=False, fontsize=9
    )
    return figure


def _ladder(measures: list[Measure]) -> Figure:
    return _bars(measures, "CPU time per layer in the actor's process", "CPU microseconds per message", "actor", 1.0)


def _peers(measures: list[Measure]) -> Figure:
    own = [measure for measure in measures if measure.setting == "64 in flight"]
    title = "Queries a second by one process, load from outside, 64 in flight"
    return _bars(own, title, "thousand a second", "rate", 1000.0)


_SHARES = {scale.ONE: "#9cc9b8", scale.ONE_OF_8: "#2fa87f", scale.TWO_OF_8: _OURS}
"""Color of each number of processes and partitions."""


def _scale(measures: list[Measure]) -> Figure | None:
    """Draw the rates of each kind of work by processes and partitions, relative to those of one process and one partition."""
    works = [f"{what}, {handlers}" for handlers in (scale.LONG, scale.CHEAP) for what in ("turns", "queries")]
    works = [work for work in (*works, "lists of 20") if any(each.setting == work for each in measures)]
    if not works:
        return None
    title = "Rate by processes and partitions, relative to one process with one partition"
    figure, (axes,) = _figure(
        title, "times the rate of one process with one partition (lines: lowest to highest round)", 1
    )
    height = 0.8 / len(_SHARES)
    for number, (contender, color) in enumerate(_SHARES.items()):
        for at, work in enumerate(works):
            found = {each.contender: each for each in measures if each.setting == work}
            first, own = (found[name].rounds for name in (scale.ONE, contender))
            ratios = sorted(b["rate"] / a["rate"] for a, b in zip(first, own, strict=True))
            middle, rate = median(ratios), found[contender].median("rate") or 0
            y = at + (number - (len(_SHARES) - 1) / 2) * height
            label = contender if at == 0 else None
            spread = [[middle - ratios[0]], [ratios[-1] - middle]]
            axes.barh(y, middle, height * 0.9, xerr=spread, color=color, ecolor="#222222", capsize=2, label=label)
            axes.text(ratios[-1] + 0.02, y, f"{rate:,.0f}/s", va="center", fontsize=8)
    axes.set_yticks(range(len(works)), works)
    axes.axvline(1, color="#777777", linewidth=0.8, linestyle=":")
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    return figure


def _bars(measures: list[Measure], title: str, unit: str, metric: str, scale: float) -> Figure:
    figure, (axes,) = _figure(title, f"{unit} (lines: lowest to highest round)", 1)
    values, spread = _spread(measures, metric, scale)
    ours = [measure.contender.startswith(("actorloom", "our", "+", "query +")) for measure in measures]
    traced = ["traced" in measure.contender or "exported" in measure.contender for measure in measures]
    bars = axes.barh(
        [measure.contender for measure in measures],
        values,
        xerr=spread,
        color=[_OURS if own else _OTHERS for own in ours],
        hatch=["///" if is_traced else "" for is_traced in traced],
        edgecolor="white",
        ecolor="#222222",
        capsize=2,
    )
    for bar, value, above in zip(bars, values, spread[1], strict=True):
        x = value + above + max(values) / 80  # right of the error bar, which would cross the text
        axes.text(x, bar.get_y() + bar.get_height() / 2, f"{value:.1f}", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlim(left=0)
    return figure


def _spread(measures: list[Measure], metric: str, scale: float) -> tuple[list[float], list[list[float]]]:
    """Return the medians, and the distances from them down to the lowest and up to the highest round."""
    medians = [(measure.median(metric) or 0) / scale for measure in measures]
    rounds = [[sample[metric] / scale for sample in measure.rounds if metric in sample] for measure in measures]
    below = [center - min(found) for center, found in zip(medians, rounds, strict=True)]
    above = [max(found) - center for center, found in zip(medians, rounds, strict=True)]
    return medians, [below, above]


def _figure(title: str, x: str, panels: int) -> tuple[Figure, list[Axes]]:
    figure, axes = plt.subplots(
        1, panels, figsize=(8 if panels == 1 else 11, 4.5), layout="constrained", sharey=True, squeeze=False
    )
    figure.get_layout_engine().set(rect=(0, 0.04, 1, 0.96))  # type: ignore[union-attr] - space for the origin
    figure.suptitle(title, x=0.01, ha="left")
    for panel in axes[0]:
        panel.set_xlabel(x)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, list(axes[0])


def _origin(report: Report) -> str:
    machine, versions = report.machine, report.versions
    return f"{report.commit}, {machine['cpu']}, {machine['cores']} cores, Python {versions['python']}, nats-server {versions['nats-server']}"
