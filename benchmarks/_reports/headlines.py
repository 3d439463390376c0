r"""The outcome of a plan in sentences."""
from typing import Dict, List, Tuple

from _experiments.significance import LEVEL, verdict
from _reports.summary import METRICS, Comparison, K, Result, Summary
from _reports.tables import number, p_value

MAX_NAMED = 6  # Of baselines of which the same is said; ours are all named


def headlines(summary: Summary) -> List[str]:
    r"""Returns which model is best on validation, and how models compare with
    those that the plan compares with: ours with a baseline, all with ours.
    """
    best = summary.results[0]
    out = [f'Best on validation: {best.label}, with {_accuracy(best)}.']
    baseline = next((x for x in summary.results if not x.is_ours), None)
    for comparison in summary.comparisons:
        base = comparison.base
        others = [x for x in summary.results if x is not base]
        if base is not best:
            subject = ('The best baseline there: ' if base is baseline else
                       'Compared with: ')
            out.append(f'{subject}{base.label}, with {_accuracy(base)}.')
        if base.is_ours:
            out += _group(comparison, others)
        else:
            out += [_compare(comparison, x.label) for x in others
                    if x.is_ours]
    return out


def _accuracy(result: Result) -> str:
    return ' and '.join(f'{title}@{K} {number(result.mean(f"{name}@{K}"))}'
                        for name, title in METRICS.items()) + ' on test'


def _compare(comparison: Comparison, label: str) -> str:
    parts = []
    for name, title in METRICS.items():
        mean, _, _, p = comparison.values[name][label]
        sure = '' if p < LEVEL else ', which may be chance'
        parts.append(f'{title}@{K} {_percent(comparison, name, label)}{sure} '
                     f'(p = {p_value(p)})')
    return (f"{label}, compared with {comparison.base.label}: "
            f"{'; '.join(parts)}.")


def _group(comparison: Comparison, results: List[Result]) -> List[str]:
    r"""Those of which the same can be said in both metrics, together."""
    groups: Dict[str, List[Tuple[str, bool]]] = {}
    for result in results:
        values = {title: comparison.values[name][result.label]
                  for name, title in METRICS.items()}
        text = ' and '.join(f'{title}@{K} {verdict(mean, p)}'
                            for title, (mean, _, _, p) in values.items())
        percents = ', '.join(_percent(comparison, name, result.label)
                             for name in METRICS)
        groups.setdefault(text, []).append(
            (f'{result.label} ({percents})', result.is_ours))
    return [f"Compared with {comparison.base.label}, {text}: "
            f"{_some(models)}." for text, models in sorted(groups.items())]


def _some(models: List[Tuple[str, bool]]) -> str:
    limit = MAX_NAMED if len(models) <= MAX_NAMED else MAX_NAMED - 1
    named = [text for i, (text, ours) in enumerate(models)
             if ours or i < limit]
    rest = len(models) - len(named)
    return ', '.join(named) + (f' and {rest} more' if rest > 0 else '')


def _percent(comparison: Comparison, name: str, label: str) -> str:
    mean = comparison.values[name][label][0]
    whole = comparison.base.mean(f'{name}@{K}')
    return f'{100 * mean / whole:+.1f}%' if whole > 0 else f'{mean:+.4f}'
