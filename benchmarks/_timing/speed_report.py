r"""What `speed.py` makes of the seconds it measured."""
from statistics import median
from typing import Any, Dict, List

from _timing.arithmetic import Work
from _timing.fast_loop import PHASES

Seconds = Dict[str, Dict[str, float]]


def summarize(repeats: List[Seconds], work: Dict[str, Work],
              limits: Dict[str, float]) -> Dict[str, Any]:
    r"""Returns medians, ratios and rates, of the epoch and of its phases."""
    names = list(repeats[0])
    epoch = Work(sum(w.flop for w in work.values()),
                 sum(w.bytes for w in work.values()))
    return {
        'epoch': _compare({
            name: median(sum(x[name].values()) for x in repeats)
            for name in names
        }, epoch, limits),
        'phases': {
            phase: _compare({
                name: median(x[name][phase] for x in repeats)
                for name in names
            }, work[phase], limits)
            for phase in PHASES
        },
        'repeats': repeats,
    }


def _compare(seconds: Dict[str, float], work: Work,
             limits: Dict[str, float]) -> Dict[str, Any]:
    rates = {name: work.flop / s / 1e9 for name, s in seconds.items()}
    moved = {name: work.bytes / s / 1e9 for name, s in seconds.items()}
    return {
        'seconds': seconds,
        'textbook_over_fast': {
            name.removeprefix('fast_'): seconds['textbook'] / s
            for name, s in seconds.items() if name != 'textbook'
        },
        'minimal_gflop': work.flop / 1e9,
        'minimal_gbytes': work.bytes / 1e9,
        'gflops': rates,
        'gbytes_per_s': moved,
        'of_matmul_peak': {
            name: rate / limits[f'matmul_{_precision(name)}_gflops']
            for name, rate in rates.items()
        },
        'of_copy_bandwidth': {
            name: rate / limits['copy_gbytes_per_s']
            for name, rate in moved.items()
        },
    }


def _precision(name: str) -> str:
    return 'bf16' if name.endswith('bf16') else 'fp32'


def print_table(result: Dict[str, Any]) -> None:
    r"""Prints a result for people."""
    rows = {**result['phases'], 'epoch': result['epoch']}
    names = list(result['epoch']['seconds'])
    machine, limits = result['machine'], result['machine']['limits']
    print(f"{machine.get('gpu', machine['cpu'])}, {machine['threads']} "
          f"threads, torch {machine['torch']}")
    print(', '.join(f'{k} {v:.0f}' for k, v in limits.items()))
    print(', '.join(f'{k} {v}' for k, v in result['settings'].items()))

    header = f"{'':<12}" + ''.join(f'{name:>12}' for name in names)
    header += ''.join(f"{'x ' + name[5:]:>9}" for name in names[1:])
    header += ''.join(f"{'GFLOP/s':>9}{'peak':>6}{'GB/s':>7}{'copy':>6}"
                      for _ in names[1:])
    print(header)
    for phase, row in rows.items():
        line = f'{phase:<12}'
        line += ''.join(f'{s:>10.3f} s' for s in row['seconds'].values())
        line += ''.join(f'{ratio:9.2f}'
                        for ratio in row['textbook_over_fast'].values()
                        if ratio is not None)
        line += ''.join(f"{row['gflops'][n]:9.1f}"
                        f"{row['of_matmul_peak'][n]:6.0%}"
                        f"{row['gbytes_per_s'][n]:7.1f}"
                        f"{row['of_copy_bandwidth'][n]:6.0%}"
                        for n in names[1:])
        print(line)
    if 'bf16' in result:
        print(f"bf16: {result['bf16']}")
    if 'memory' in result:
        print('peak memory above interpreter, parameters and optimizer: ' +
              ', '.join(f"{name} {result['memory'][name]['above'] / 2**20:.0f}"
                        f" MiB" for name in names))


def plot_seconds(result: Dict[str, Any], path: str) -> None:
    r"""Draws the seconds of every phase, and of the epoch, as bars."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    rows = {**result['phases'], 'epoch': result['epoch']}
    names = list(result['epoch']['seconds'])
    width = 0.8 / len(names)
    fig, ax = plt.subplots(figsize=(8, 4.5), layout='constrained')
    for i, name in enumerate(names):
        x = [j + (i - (len(names) - 1) / 2) * width for j in range(len(rows))]
        seconds = [row['seconds'][name] for row in rows.values()]
        bars = ax.bar(x, seconds, width, label=name.replace('_', ', '))
        labels = [f'{s:.{1 if s >= 1 else 2}f}' for s in seconds]
        if i > 0:
            times = [row['seconds']['textbook'] / row['seconds'][name]
                     for row in rows.values()]
            labels = [f'{label}\n{x:.1f}x'
                      for label, x in zip(labels, times, strict=True)]
        ax.bar_label(bars, labels, fontsize=8)
    ax.set_xticks(range(len(rows)), list(rows))
    ax.set_ylabel('seconds per epoch')
    ax.margins(y=0.15)
    ax.legend(frameon=False)
    machine, chosen = result['machine'], result['settings']
    ax.set_title(f"{chosen['data']}, {chosen['likelihood']}; "
                 f"{machine.get('gpu', machine['cpu'])}, "
                 f"{machine['threads']} threads", fontsize=10)
    fig.savefig(path, dpi=150)
    plt.close(fig)
