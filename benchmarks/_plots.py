"""Plots as SVG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._results import Panel, Plot

SIZE = (6.0, 4.5)  # inches, of one diagram


def write(plot: Plot, folder: Path) -> Path:
    """Draw a plot; the file's path."""
    import matplotlib as mpl

    mpl.use("svg")
    # The same figures make the same file.
    mpl.rcParams["svg.hashsalt"] = "aiomanager"
    from matplotlib import pyplot as plt

    width, height = SIZE
    figure, every_axes = plt.subplots(
        1, len(plot.panels), figsize=(width * len(plot.panels), height), squeeze=False
    )
    for axes, panel in zip(every_axes[0], plot.panels, strict=True):
        _draw(axes, panel)
    labels = list(plot.panels[0].lines)
    columns = min(len(labels), 2 * len(plot.panels))
    handles, names = every_axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="upper center", ncols=columns, bbox_to_anchor=(0.5, 0))
    figure.tight_layout()
    path = folder / f"benchmarks-{plot.name}.svg"
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return path


def _draw(axes: Any, panel: Panel) -> None:
    for number, (label, (xs, ys)) in enumerate(panel.lines.items()):
        ours = label.startswith("aiomanager")
        axes.plot(
            xs,
            ys,
            label=label,
            linewidth=2.5 if ours else 1.2,
            linestyle="-" if ours else "--",
            marker="o" if _few(xs) else None,
            markersize=3,
            color=f"C{number % 10}",
            alpha=1.0 if number < 10 else 0.5,
        )
    if "x" in panel.log:
        axes.set_xscale("log")
    if "y" in panel.log:
        axes.set_yscale("log")
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.grid(alpha=0.3, which="major")


def _few(xs: Sequence[float]) -> bool:
    return len(xs) < 20
