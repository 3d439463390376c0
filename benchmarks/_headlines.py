r"""The outcome of a plan in sentences."""
from typing import Dict, List

from _figures import stands_out
from _report_tables import number, p_value
from _significance import LEVEL, verdict
from _summary import METRICS, Comparison, K, Result, Summary


def headlines(summary: Summary) -> List[str]:
    r"""Returns which model is best on validation, and how ours compare with
    the first of those that the plan compares with.
    """
    best = summary.results[0]
    if len(summary.comparisons) == 0:
        return [f'Best on validation: {best.label}, with {_accuracy(best)}.']
    comparison = summary.comparisons[0]
    base = comparison.base
    if base.is_ours:
        out = [f'All are compared with {base.label}, which has '
               f'{_accuracy(base)}.']
    elif best is base:
        out = [f'Best on validation: the baseline {base.label}, with '
               f'{_accuracy(base)}.']
    else:
        out = [f'Best on validation: {best.label}, with {_accuracy(best)}.',
               f'The best baseline there: {base.label}, with '
               f'{_accuracy(base)}.']
    ours = [x for x in summary.results if x.is_ours and x is not base]
    if all(stands_out(summary, x) for x in ours):
        return out + [_compare(comparison, x.label) for x in ours]
    return out + _group(comparison, ours)


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
    groups: Dict[str, List[str]] = {}
    for result in results:
        mean, _, _, p = comparison.values['recall'][result.label]
        percent = _percent(comparison, 'recall', result.label)
        groups.setdefault(verdict(mean, p), []).append(
            f'{result.label} ({percent})')
    return [f"{METRICS['recall']}@{K}, {text}: {', '.join(labels)}."
            for text, labels in sorted(groups.items())]


def _percent(comparison: Comparison, name: str, label: str) -> str:
    mean = comparison.values[name][label][0]
    whole = comparison.base.mean(f'{name}@{K}')
    return f'{100 * mean / whole:+.1f}%' if whole > 0 else f'{mean:+.4f}'
