r"""What the pictures of the report have in common."""
import io
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from scipy.optimize import isotonic_regression

from _reports.summary import Result, Summary
from diffmm_pyg.errors import MissingExtraError

OURS = ['#c62828', '#e65100', '#ad1457', '#6a1b9a']
YARDSTICK = '#0d47a1'
# Their numbers have no common factor: 280 models look different, and
# neighbours do in all respects.
OTHERS = ['#3b7d3a', '#8d5a3c', '#5e6fb5', '#00897b', '#6d7278', '#8a8312',
          '#b0628f', '#3f8fb0']
MARKERS = ['s', '^', 'D', 'v', 'P', 'X', 'o']
STYLES = ['-', '--', ':', '-.', (0, (6, 1, 1, 1, 1, 1))]
TEXT = 10

Drawn = Tuple[bytes, str]  # An SVG, and what it shows.


class Look(NamedTuple):
    r"""How a model looks, the same in all pictures."""
    color: str
    marker: str
    style: Any
    stands_out: bool = False

    @property
    def width(self) -> float:
        return 2.6 if self.stands_out else 1.2

    @property
    def size(self) -> float:
        large = 15 if self.marker == '*' else 9
        return large if self.stands_out else 6

    @property
    def order(self) -> int:
        return 4 if self.stands_out else 2

    @property
    def text(self) -> Dict[str, str]:
        r"""How its name is written."""
        return {'color': self.color,
                'fontweight': 'bold' if self.stands_out else 'normal'}


def import_pyplot() -> Any:
    r"""Imports :obj:`matplotlib`, late."""
    try:
        import matplotlib
    except ImportError as e:
        raise MissingExtraError('matplotlib', 'plots',
                                'to draw the report') from e
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    plt.rcParams.update({
        'font.size': TEXT,
        'axes.spines.top': False,
        'axes.spines.right': False,
        'axes.titlesize': TEXT + 1,
        'axes.titlelocation': 'left',
        'figure.titlesize': TEXT + 3,
        'svg.hashsalt': 'diffmm_pyg',  # The same file for the same numbers.
    })
    return plt


def looks(summary: Summary) -> Dict[str, Look]:
    r"""Returns how every model looks, no two alike: ours and the yardstick
    stand out.
    """
    labels = sorted(result.label for result in summary.results
                    if not stands_out(summary, result))
    out = {label: Look(OTHERS[i % len(OTHERS)], MARKERS[i % len(MARKERS)],
                       STYLES[i % len(STYLES)])
           for i, label in enumerate(labels)}
    ours = [x for x in summary.results if stands_out(summary, x)
            and x is not summary.yardstick]
    for result, color in zip(ours, OURS, strict=False):
        out[result.label] = Look(color, '*', '-', True)
    if summary.yardstick is not None:
        out[summary.yardstick.label] = Look(YARDSTICK, 'o', '-', True)
    return out


def stands_out(summary: Summary, result: Result) -> bool:
    r"""Returns whether a model is ours among baselines, or the yardstick.
    Where all are ours, as in ablations, only the yardstick does.
    """
    ours = [x for x in summary.results if x.is_ours]
    return result is summary.yardstick or (
        result.is_ours and len(ours) <= len(OURS))


def to_svg(fig: Any) -> bytes:
    r"""Returns a figure as SVG, and closes it."""
    plt = import_pyplot()
    file = io.BytesIO()
    fig.savefig(file, format='svg', metadata={'Date': None},
                bbox_inches='tight', pad_inches=0.15)
    plt.close(fig)
    return file.getvalue()


def spread(positions: Sequence[float], gap: float, low: float = -np.inf,
           high: float = np.inf) -> np.ndarray:
    r"""Moves positions as little as possible, in squares, such that
    neighbours are at least :obj:`gap` apart, and, as far as there is space,
    between :obj:`low` and :obj:`high`.
    """
    x = np.asarray(positions, dtype=float)
    order = np.argsort(x, kind='stable')
    steps = gap * np.arange(len(x))
    out = np.empty_like(x)
    moved = isotonic_regression(x[order] - steps).x
    out[order] = np.maximum(np.minimum(moved, high - steps[-1]), low) + steps
    return out


def label_ends(ax: Any, ends: List[Tuple[float, str, Look]]) -> None:
    r"""Writes names to the right of axes, where lines end, without overlap.

    Args:
        ax (matplotlib.axes.Axes): The axes, with its final limits.
        ends ([Tuple]): Where a line ends, its name, and its look.
    """
    height = ax.get_window_extent().height / ax.figure.dpi * 72  # Points
    to_axes = ax.transData + ax.transAxes.inverted()
    at = np.array([to_axes.transform((ax.get_xlim()[1], y))[1]
                   for y, _, _ in ends])
    moved = spread(at, 1.25 * TEXT / height, 0., 1.)
    for y, new, (_, label, look) in zip(at, moved, ends, strict=True):
        ax.plot([1., 1.03], [y, new], transform=ax.transAxes, clip_on=False,
                color=look.color, linewidth=0.7)
        ax.text(1.04, new, label, transform=ax.transAxes, va='center',
                fontsize=TEXT - 1, **look.text)


def label_points(ax: Any, points: List[Tuple[float, float, str, Look]],
                 ) -> None:
    r"""Writes names beside points, each where it overlaps neither points nor
    other names.

    Args:
        ax (matplotlib.axes.Axes): The axes, with its final limits.
        points ([Tuple]): Coordinates, the name and the look of every point.
    """
    scale = ax.figure.dpi / 72
    xy = ax.transData.transform([(x, y) for x, y, _, _ in points])
    taken = np.concatenate([xy - 5 * scale, xy + 5 * scale], axis=1)
    area = ax.get_window_extent()
    limits = np.array([area.x0, area.y0, area.x1 + 40 * scale, area.y1])
    for i in sorted(range(len(points)), key=lambda i: -points[i][3].order):
        x, y, label, look = points[i]
        text = ax.annotate(
            label, (x, y), (0, 0), textcoords='offset points',
            va='center', ha='center', fontsize=TEXT - 1, zorder=5, **look.text,
            arrowprops=dict(arrowstyle='-', color=look.color, linewidth=0.6,
                            shrinkA=0, shrinkB=4))
        box = text.get_window_extent()
        offset, place = _free_place(xy[i], (box.width, box.height), taken,
                                    limits, scale)
        text.set_position(tuple(offset / scale))
        taken = np.concatenate([taken, place[None]])


def _free_place(point: np.ndarray, size: Tuple[float, float],
                taken: np.ndarray, limits: np.ndarray,
                scale: float) -> Tuple[np.ndarray, np.ndarray]:
    half, best = np.array(size) / 2, None
    for distance in [8, 14, 22, 32, 44, 60, 80]:
        for angle in np.pi / 8 * np.array([0, 8, 1, 15, 7, 9, 2, 14, 6, 10, 3,
                                           13, 5, 11, 4, 12]):
            direction = np.array([np.cos(angle), np.sin(angle)])
            offset = direction * (distance * scale + half)
            low, high = point + offset - half, point + offset + half
            place = np.concatenate([low, high])
            shared = (np.minimum(high, taken[:, 2:]) -
                      np.maximum(low, taken[:, :2])).clip(0).prod(axis=1).sum()
            outside = (limits[:2] - low).clip(0).sum() + \
                (high - limits[2:]).clip(0).sum()
            cost = shared + 100 * outside
            if best is None or cost < best[0]:
                best = cost, offset, place
        if best is not None and best[0] == 0:
            break
    assert best is not None
    return best[1], best[2]
