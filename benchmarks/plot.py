"""The picture of a run: one bar a row, how many times faster than torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PEER = "torchvision"
BAR, BEHIND, LIMIT = "#2f6f9f", "#b5473c", "#222222"


def speedups(run: dict[str, Any], path: Path) -> bool:
    """Draw the rows that were timed against torchvision; False if there are none."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in run["rows"] if "median" in row.get("peers", {}).get(PEER, {})]
    if not rows:
        return False
    names = [row["name"] for row in rows]
    values = [row["peers"][PEER]["median"] / row["ours"]["median"] for row in rows]
    figure = Figure(figsize=(8, 1.2 + 0.24 * len(rows)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # From 1, the peer's own speed, to the right where we are faster and to the left where not.
    colours = [BAR if value >= 1 else BEHIND for value in values]
    bars = axes.barh(names, [value - 1 for value in values], left=1, color=colours, height=0.7)
    axes.bar_label(bars, labels=[f"{value:.3g}x" for value in values], padding=3, fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.set_xlim(min(0.8, *values) * 0.9, max(values) * 2)
    axes.axvline(1, color=LIMIT, linewidth=0.8)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    machine = run["machine"]
    axes.set_xlabel(f"times faster than {PEER} {machine['peers'][PEER]}, median")
    axes.set_title(f"{machine['cpu']}, {machine['threads']} threads, {machine['isa']}", fontsize=9, loc="left")
    figure.savefig(path)
    return True
