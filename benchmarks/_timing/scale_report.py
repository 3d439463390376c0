r"""What `scale.py` makes of the sizes it measured."""
from typing import Any, Callable, Dict, List

import numpy as np

from _timing.fast_loop import PHASES

Row = Dict[str, Any]
# What grows, as read from a row:
QUANTITIES: Dict[str, Callable[[Row], float]] = {
    **{phase: lambda row, phase=phase: row['phases'][phase]['seconds']
       for phase in PHASES},
    'epoch': lambda row: row['seconds'],
    # Of data, parameters, optimizers and the work itself:
    'memory': lambda row: row['peak_bytes'] - row['interpreter_bytes'],
}


def fit_exponents(rows: List[Row]) -> Dict[str, Dict[str, float]]:
    r"""Fits :math:`c \cdot U^a I^b` to every quantity by least squares of
    logarithms, and returns the exponents of those of :obj:`users` (and with
    them edges) and :obj:`items` that vary. If they only vary together, there
    are none.
    """
    axes = [axis for axis in ['users', 'items']
            if len({row[axis] for row in rows}) > 1]
    x = np.array([[np.log(row[axis]) for axis in axes] + [1.]
                  for row in rows])
    if len(axes) == 0 or np.linalg.matrix_rank(x) < x.shape[1]:
        return {}
    out = {}
    for name, value in QUANTITIES.items():
        y = np.log([value(row) for row in rows])
        exponents = np.linalg.lstsq(x, y, rcond=None)[0]
        out[name] = dict(zip(axes, map(float, exponents)))
    return out


def print_row(row: Row) -> None:
    r"""Prints a size; a tilde marks what is extrapolated."""
    text = (f"{row['users']} users, {row['items']} items, denoisers of width "
            f"{row['hidden_channels']}: ")
    if 'failed' in row:
        print(f"{text}failed with status {row['failed']}", flush=True)
        return
    parts = [_mark(name, row['phases'][name]) for name in PHASES]
    parts.append(_mark('epoch', row))
    found = row['phases']['evaluation']
    if 'recall' in found:
        parts.append(f"Recall@20 {found['recall']:.4f} (most popular items: "
                     f"{found['popularity_recall']:.4f})")
    # That of data and model before the epoch included:
    peak = max(row['peak_bytes'], row.get('set_up_bytes', 0))
    print(f"{text}{row['edges']} edges, {', '.join(parts)}, peak memory "
          f"{peak / 2**20:.0f} MiB", flush=True)


def _mark(name: str, part: Row) -> str:
    tilde = '~' if part['extrapolated'] else ''
    return f"{name} {tilde}{part['seconds']:.3g} s"


def print_exponents(exponents: Dict[str, Dict[str, float]]) -> None:
    r"""Prints what :meth:`fit_exponents` returned."""
    if len(exponents) == 0:
        print('No exponents: users and items do not vary independently')
    for name, powers in exponents.items():
        print(f'{name:<12} grows as ' + ' '.join(
            f'{axis}^{power:.2f}' for axis, power in powers.items()))


def plot_scale(rows: List[Row], path: str) -> None:
    r"""Draws every quantity over the number of users, one line per number of
    items; hollow points are extrapolated.
    """
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    exponents = fit_exponents(rows)
    fig, axs = plt.subplots(2, 3, figsize=(11, 6.5), layout='constrained',
                            sharex=True)
    for ax, (name, value) in zip(axs.flat, QUANTITIES.items()):
        for i, items in enumerate(sorted({row['items'] for row in rows})):
            line = sorted((row for row in rows if row['items'] == items),
                          key=lambda row: row['users'])
            users = [row['users'] for row in line]
            scale = 2**20 if name == 'memory' else 1
            ax.plot(users, [value(row) / scale for row in line],
                    color=f'C{i}', label=f'{items} items')
            for row in line:
                hollow = row['phases'].get(name, row)['extrapolated'] and \
                    name != 'memory'
                ax.plot(row['users'], value(row) / scale, 'o', color=f'C{i}',
                        fillstyle='none' if hollow else 'full')
        ax.set(xscale='log', yscale='log',
               ylabel='peak MiB' if name == 'memory' else 'seconds per epoch')
        fitted = ', '.join(f'{axis}^{power:.2f}' for axis, power
                           in exponents.get(name, {}).items())
        ax.set_title(f'{name}: {fitted}' if fitted else name, fontsize=10)
    for ax in axs[1]:
        ax.set_xlabel('users')
    axs[0, 0].legend(frameon=False, fontsize=8)
    fig.suptitle(f"denoisers of width {rows[0]['hidden_channels']}, "
                 f"{rows[0]['machine']['cpu']}, "
                 f"{rows[0]['threads']} threads", fontsize=10)
    fig.savefig(path, dpi=150)
    plt.close(fig)
