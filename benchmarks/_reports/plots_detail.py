r"""The pictures of groups of users and items, and of learning."""
from typing import Any, Dict, Optional

import numpy as np

from _reports.figures import Drawn, Look, import_pyplot, to_svg
from _reports.groups import COLD, Grouped, by_items, by_users
from _reports.summary import K, Summary


def draw_groups(summary: Summary, look: Dict[str, Look]) -> Dict[str, Drawn]:
    r"""Draws recall for users with little and much history, and for unknown,
    rare and popular items.
    """
    return {
        'users': _draw_table(
            by_users(summary), look,
            f'For whom does it work? Recall@{K} by the number of training '
            f'interactions of the user',
            f'Test Recall@{K}, means over seeds and over the users of a '
            f'group.'),
        'items': _draw_table(
            by_items(summary), look,
            f'Which items are found? Share of the test items among the '
            f'first {K}, by their number of training interactions',
            f'Share of the user-item pairs of the test split that are among '
            f'the first {K} recommendations, means over seeds, by how often '
            f'the item occurs in training. Items that never do (cold ones) '
            f'stand apart: only their features can tell them.'),
    }


def _draw_table(grouped: Grouped, look: Dict[str, Look], title: str,
                text: str) -> Drawn:
    plt = import_pyplot()
    labels, number = list(grouped.means), grouped.sizes
    x = np.stack(list(grouped.means.values()))
    # A gap between those that training knows nothing of, and the others:
    at = np.arange(len(number)) + 0.25 * (grouped.names[0] == COLD)
    if grouped.names[0] == COLD:
        at[0] = 0
    fig, ax = plt.subplots(figsize=(2.6 + 1.5 * len(number),
                                    1.2 + 0.33 * len(labels)))
    best = np.maximum(x.max(axis=0), 1e-12)
    for i in range(len(labels)):
        for j, value in enumerate(x[i]):
            share = value / best[j]
            is_best = np.isclose(share, 1)
            ax.add_patch(plt.Rectangle(
                (at[j] - 0.5, i - 0.5), 1, 1, linewidth=1, edgecolor='white',
                facecolor=plt.cm.YlGnBu(0.75 * share**2)))
            ax.text(at[j], i, f'{value:.3f}', ha='center', va='center',
                    color='white' if share > 0.88 else '#222',
                    fontweight='bold' if is_best else 'normal')
    ax.set(xlim=(-0.5, at[-1] + 0.5), ylim=(len(labels) - 0.5, -0.5))
    ax.set_xticks(at, [f'{name}\n{n:,} {grouped.counted}' for name, n in
                       zip(grouped.names, number, strict=True)])
    ax.set_yticks(range(len(labels)), labels)
    for tick in ax.get_yticklabels():
        own = look[tick.get_text()]
        tick.set(**own.text)
    ax.tick_params(length=0)
    ax.xaxis.tick_top()
    for side in ax.spines.values():
        side.set_visible(False)
    ax.set_title(title, pad=12, x=0, ha='left')
    ax.set_xlabel('darker is better within a column; bold is the best')
    return to_svg(fig), text


def draw_curves(summary: Summary, look: Dict[str, Look]) -> Optional[Drawn]:
    r"""Draws validation recall over epochs, a panel for every model that
    learns.
    """
    key = f'val/recall@{K}'
    learned = [x for x in summary.results
               if any(len(row['history']) > 1 for row in x.rows)]
    if len(learned) == 0:
        return None
    plt = import_pyplot()
    columns = min(4, len(learned))
    rows = -(-len(learned) // columns)
    fig, axs = plt.subplots(rows, columns, sharey=True, squeeze=False,
                            figsize=(3.2 * columns, 0.8 + 2.3 * rows),
                            layout='constrained')
    for ax, result in zip(axs.flat, learned, strict=False):
        own = look[result.label]
        for row, (kept, number) in zip(result.rows, result.epochs,
                                       strict=True):
            y = [epoch[key] for epoch in row['history']]
            ax.plot(range(1, number + 1), y, color=own.color, linewidth=1)
            ax.plot(kept, y[kept - 1], 'o', color=own.color, markersize=5)
        _draw_yardstick(ax, summary, look)
        ax.set_title(result.label, **own.text)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.3)
    axs[0, 0].set_ylim(0, None)  # Of all, now that all is drawn.
    for ax in axs.flat[len(learned):]:
        ax.axis('off')
    fig.supxlabel('epoch')
    fig.supylabel(f'validation Recall@{K}')
    base = summary.yardstick.label if summary.yardstick else ''
    fig.suptitle('How models learn: a line per seed, a point at the epoch '
                 'that is kept' + (f'; dashed: {base}' if base else ''),
                 x=0.01, ha='left')
    closed = [x.label for x in summary.results if x not in learned]
    return to_svg(fig), (
        f'Validation Recall@{K} after every epoch. ' +
        (f"Computed at once, without a curve: {', '.join(closed)}."
         if closed else ''))


def _draw_yardstick(ax: Any, summary: Summary,
                    look: Dict[str, Look]) -> None:
    if summary.yardstick is not None:
        ax.axhline(summary.yardstick.mean(f'recall@{K}', 'val'),
                   color=look[summary.yardstick.label].color, linewidth=1,
                   linestyle='--', zorder=0)
