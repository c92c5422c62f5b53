"""Curves of several describers in one plot, as SVG for a page."""

from collections.abc import Sequence
from io import StringIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from pspsearch_build.evaluation.measuring import Evaluation
from pspsearch_build.evaluation.retrieval import RECALL_LEVELS, Labels

_DASHES = ("-", "--", "-.", ":")
"""Line styles, for readers who cannot tell the colours apart."""
_MOST_POINTS = 300
_DEEPEST = 50


def plot_recall(evaluations: Sequence[Evaluation]) -> str:
    """Recall by the number of hits looked at."""
    figure, axes = _begin("hits looked at", "share of queries with a right one among them")
    depths = np.arange(1, _DEEPEST + 1)
    for one, dashes in _styled(evaluations):
        axes.plot(depths, [one.ranks.recall_at(depth).mean() for depth in depths], dashes, label=one.name)
    axes.set_xscale("log")
    return _end(figure, axes)


def plot_precision(evaluations: Sequence[Evaluation]) -> str:
    """Precision by recall, averaged over the queries."""
    figure, axes = _begin("recall", "precision")
    for one, dashes in _styled(evaluations):
        axes.plot(RECALL_LEVELS, one.ranks.precision_by_recall(), dashes, label=one.name)
    return _end(figure, axes)


def plot_roc(evaluations: Sequence[Evaluation]) -> str:
    """The share of accepted pairs of one class by the share of accepted pairs of two classes."""
    figure, axes = _begin("pairs of two classes accepted", "pairs of one class accepted")
    levels = np.linspace(0, 1, _MOST_POINTS) ** 2  # denser where few are accepted: people choose thresholds there
    for one, dashes in _styled(evaluations):
        accepted = np.interp(levels, one.verification.false_accepts, one.verification.true_accepts)
        axes.plot(levels, accepted, dashes, label=f"{one.name} ({one.verification.area:.3f})")
    return _end(figure, axes)


def plot_confusion(confusion: Labels, labels: Sequence[str]) -> str:
    """The share of each true class (down) that was given each class (across); classes are labelled if there is room."""
    figure, axes = _begin("named", "true class")
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.grid(visible=False)
    axes.imshow(shares, cmap="gray_r", vmin=0, vmax=1)
    if len(labels) <= 30:
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=6)
        axes.set_yticks(range(len(labels)), labels, fontsize=6)
    return _draw(figure)


def _styled(evaluations: Sequence[Evaluation]) -> list[tuple[Evaluation, str]]:
    return [(one, _DASHES[place % len(_DASHES)]) for place, one in enumerate(evaluations)]


def _begin(across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes


def _end(figure: Figure, axes: Axes) -> str:
    axes.set_ylim(0, 1.02)
    axes.legend(loc="best", fontsize=8)
    return _draw(figure)


def _draw(figure: Figure) -> str:
    """Draws the SVG without the lines that only a separate file needs."""
    text = StringIO()
    FigureCanvasSVG(figure).print_svg(text)
    return text.getvalue()[text.getvalue().index("<svg") :]
