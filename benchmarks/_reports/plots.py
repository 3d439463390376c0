r"""The pictures of the report."""
from typing import Any, Dict, List

import numpy as np

from _experiments.datasets import title_of
from _experiments.ranks import KS
from _experiments.significance import LEVEL, standard_error, verdict
from _reports.figures import (
    Drawn,
    Look,
    import_pyplot,
    label_ends,
    label_points,
    looks,
    to_svg,
)
from _reports.plots_detail import draw_curves, draw_groups
from _reports.summary import METRICS, Comparison, K, Result, Summary

VERDICTS = {'better': '#1b7837', 'worse': '#b2182b', 'not told apart': '#777'}


def draw_all(summary: Summary) -> Dict[str, Drawn]:
    r"""Draws all pictures of a dataset, each with what it shows."""
    look = looks(summary)
    out = {
        'overview': draw_overview(summary, look),
        'cutoffs': draw_cutoffs(summary, look),
        'cost': draw_cost(summary, look),
        **draw_groups(summary, look),
        **{f'differences to {x.base.label}':
           draw_differences(summary, x, look) for x in summary.comparisons},
    }
    curves = draw_curves(summary, look)
    return out if curves is None else {**out, 'curves': curves}


def draw_overview(summary: Summary, look: Dict[str, Look]) -> Drawn:
    r"""Draws the accuracy of every model, how sure it is, and what is told
    of it elsewhere.
    """
    plt = import_pyplot()
    results = summary.results
    fig, axs = plt.subplots(
        1, 2, figsize=(12, 1.9 + 0.33 * len(results)), sharey=True,
        layout='constrained')
    for ax, (name, title) in zip(axs, METRICS.items(), strict=True):
        for i, result in enumerate(results):
            _draw_model(ax, i, result, summary, name, look[result.label])
        if summary.yardstick is not None:
            ax.axvline(summary.yardstick.mean(f'{name}@{K}'), zorder=0,
                       color=look[summary.yardstick.label].color,
                       linestyle=':', linewidth=1)
        ax.set(title=f'{title}@{K} on the test split (right is better)',
               xlim=(0, 1.03 * ax.get_xlim()[1]),
               ylim=(len(results) - 0.5, -0.5))
        ax.grid(axis='x', alpha=0.3)
        ax.tick_params(left=False)
    _name_rows(axs[0], results, look)
    _add_legend(fig, axs[0], summary)
    fig.suptitle(f'{title_of(summary.dataset)}: which model recommends best? '
                 f'(The best on validation first)', x=0.01, ha='left')
    return to_svg(fig), (
        'Accuracy of every model on the test split: the mean over seeds '
        '(point and number), the standard deviation over seeds (thick bar), '
        'and the 95% interval over users (thin bar).' +
        (f' The dotted line is {summary.yardstick.label}, with which the '
         f'others are compared.' if summary.yardstick else ''))


def _name_rows(ax: Any, results: List[Result], look: Dict[str, Look]) -> None:
    ax.set_yticks(range(len(results)), [x.label for x in results])
    for text, result in zip(ax.get_yticklabels(), results, strict=True):
        text.set(**look[result.label].text)


def _draw_model(ax: Any, i: int, result: Result, summary: Summary, name: str,
                look: Look) -> None:
    key = f'{name}@{K}'
    mean, error = result.mean(key), standard_error(result.users[name])
    deviation = np.nan_to_num(result.deviation(key))
    ax.plot([mean - 1.96 * error, mean + 1.96 * error], [i, i],
            color=look.color, linewidth=1.2, solid_capstyle='butt')
    ax.plot([mean - deviation, mean + deviation], [i, i], color=look.color,
            linewidth=7, alpha=0.4, solid_capstyle='butt')
    ax.plot(mean, i, 'o', color=look.color, markersize=7, zorder=4)
    ax.annotate(f'{mean:.4f}', (mean, i), (0, 6), fontsize=8, ha='center',
                va='bottom', textcoords='offset points', color=look.color,
                bbox=dict(facecolor='white', linewidth=0, alpha=0.8, pad=0.5))
    on_test = result.best_on_test(key)
    if on_test is not None:
        ax.plot(on_test.mean(), i, 'o', color=look.color, markersize=8,
                fillstyle='none', zorder=3)
    published = result.published(summary.dataset, key)
    if published is not None:
        ax.plot(published, i, 'D', color='#444', markersize=6,
                fillstyle='none', zorder=3)


def _add_legend(fig: Any, ax: Any, summary: Summary) -> None:
    gray = '#555'
    handles = [
        *ax.plot([], [], 'o', color=gray, label='mean, epoch chosen on '
                 'validation'),
        *ax.plot([], [], color=gray, linewidth=7, alpha=0.4,
                 label='± deviation over seeds'),
        *ax.plot([], [], color=gray, linewidth=1.2,
                 label='95% interval over users'),
    ]
    key = f'recall@{K}'
    if any(x.best_on_test(key) is not None for x in summary.results):
        handles += ax.plot([], [], 'o', color=gray, fillstyle='none',
                           label='epoch chosen on TEST')
    if any(x.published(summary.dataset, key) for x in summary.results):
        handles += ax.plot([], [], 'D', color='#444', fillstyle='none',
                           label='published')
    fig.legend(handles=handles, loc='outside lower center',
               ncols=len(handles), frameon=False)


def draw_differences(summary: Summary, comparison: Comparison,
                     look: Dict[str, Look]) -> Drawn:
    r"""Draws how much every model differs from one, and whether that may be
    chance.
    """
    plt = import_pyplot()
    base = comparison.base
    results = [x for x in summary.results if x is not base]
    fig, axs = plt.subplots(1, 2, figsize=(12, 1.9 + 0.3 * len(results)),
                            sharey=True, layout='constrained')
    for ax, (name, title) in zip(axs, METRICS.items(), strict=True):
        for i, result in enumerate(results):
            mean, low, high, p = comparison.values[name][result.label]
            ax.plot([low, high], [i, i], linewidth=1.6,
                    color=VERDICTS[verdict(mean, p)])
            ax.plot(mean, i, **_verdict_marker(verdict(mean, p)))
        ax.axvline(0, color=look[base.label].color, linewidth=1.2, zorder=0)
        ax.set(title=f'{title}@{K}: difference to {base.label}',
               ylim=(len(results) - 0.5, -0.5))
        ax.grid(axis='x', alpha=0.3)
        ax.locator_params(axis='x', nbins=5)
        ax.tick_params(left=False)
    _name_rows(axs[0], results, look)
    for text in VERDICTS:
        axs[0].plot([], [], label=text, **_verdict_marker(text))
    fig.legend(loc='outside lower center', ncols=len(VERDICTS), frameon=False)
    return to_svg(fig), (
        f'Difference of every model to {base.label} on the test split, with '
        f'its 95% interval over users. Hollow: at a level of {LEVEL} and '
        f'after correction for the number of models, it may be chance.')


def _verdict_marker(text: str) -> Dict[str, Any]:
    return dict(marker='o', markersize=7, linestyle='none',
                color=VERDICTS[text],
                fillstyle='none' if text == 'not told apart' else 'full')


def draw_cost(summary: Summary, look: Dict[str, Look]) -> Drawn:
    r"""Draws accuracy over training time."""
    plt = import_pyplot()
    fig, ax = plt.subplots(figsize=(11, 6))
    points = []
    for result in summary.results:
        seconds = np.array([row['training_seconds'] for row in result.rows])
        own = look[result.label]
        x, y = seconds.mean(), result.mean(f'recall@{K}')
        ax.errorbar(x, y, np.nan_to_num(result.deviation(f'recall@{K}')),
                    fmt=own.marker, color=own.color, zorder=own.order,
                    markersize=own.size)
        points.append((x, y, result.label, own))
    ax.set(xscale='log', xlabel='training time per seed (log scale)',
           ylabel=f'test Recall@{K}')
    ax.margins(0.1)
    _time_axis(ax)
    ax.grid(alpha=0.3)
    ax.set_title('What accuracy costs: up is better, left is faster '
                 '(bars: deviation over seeds)')
    label_points(ax, points)
    return to_svg(fig), (f'Test Recall@{K} over the time that one training '
                         f'takes, the evaluation of both splits after '
                         f'every epoch included. '
                         f'{_emphasis(summary, look)}')


def _time_axis(ax: Any) -> None:
    units = {0.001: '1 ms', 0.01: '10 ms', 0.1: '0.1 s', 1: '1 s',
             10: '10 s', 60: '1 min', 600: '10 min', 3600: '1 h',
             36000: '10 h'}
    low, high = ax.get_xlim()
    shown = {x: text for x, text in units.items() if low <= x <= high}
    if len(shown) > 1:
        ax.set_xticks(list(shown), list(shown.values()))
        ax.set_xticks([], minor=True)


def draw_cutoffs(summary: Summary, look: Dict[str, Look]) -> Drawn:
    r"""Draws recall over the number of recommendations, and relative to that
    of the yardstick.
    """
    plt = import_pyplot()
    known = summary.results[0].rows[0]['metrics']['test']
    ks = [k for k in KS if f'recall@{k}' in known]
    base = summary.yardstick or summary.results[0]
    fig, axs = plt.subplots(1, 2, figsize=(14, 6))
    fig.subplots_adjust(wspace=0.55)
    for ax, relative in zip(axs, [False, True], strict=True):
        ends = []
        for result in summary.results:
            y = np.array([result.mean(f'recall@{k}') for k in ks])
            if relative:
                other = np.array([base.mean(f'recall@{k}') for k in ks])
                y = 100 * (y / np.maximum(other, 1e-9) - 1)
            own = look[result.label]
            ax.plot(ks, y, linestyle=own.style, color=own.color,
                    linewidth=own.width, zorder=own.order, marker=own.marker,
                    markersize=own.size)
            ends.append((y[-1], result.label, own))
        ax.set(xscale='log', xlabel='number of recommendations K',
               xlim=(ks[0] * 0.92, ks[-1] * 1.02))
        ax.set_xticks(ks, [str(k) for k in ks])
        ax.set_xticks([], minor=True)
        ax.grid(alpha=0.3)
        label_ends(ax, ends)
    axs[0].set(ylabel='test Recall@K', ylim=(0, None),
               title='Share of the right items among the first K')
    axs[1].set(ylabel=f'difference to {base.label} in %',
               title=f'The same, compared with {base.label}')
    return to_svg(fig), (f'Recall on the test split for K = '
                         f'{", ".join(map(str, ks))}, means over seeds. '
                         f'{_emphasis(summary, look)}')


def _emphasis(summary: Summary, look: Dict[str, Look]) -> str:
    parts = []
    if any(x.marker == '*' for x in look.values()):
        parts.append('Stars: our models.')
    if summary.yardstick is not None:
        parts.append(f'Blue: {summary.yardstick.label}, with which the others '
                     f'are compared.')
    return ' '.join(parts)
