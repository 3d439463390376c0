from typing import Dict, List

from diffmm_pyg.errors import MissingExtraError


def plot_curves(history: List[Dict[str, float]], path: str) -> None:
    r"""Draws losses, and metrics, over epochs.

    Args:
        history ([Dict]): Losses and metrics of every epoch.
        path (str): The image to write.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as e:
        raise MissingExtraError('matplotlib', 'plots', 'to draw curves') from e

    epochs = [row['epoch'] for row in history]
    losses = [name for name in history[0] if name.endswith('/loss')]
    metrics = [name for name in history[0] if '@' in name
               and not name.split('/')[1].startswith('precision')]

    figure = Figure(figsize=(9, 3.5), layout='constrained')
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name in losses:
        left.plot(epochs, [row[name] for row in history],
                  label=name.removesuffix('/loss'), marker='.')
    left.set(xlabel='epoch', title='training loss', yscale='log')
    for name in metrics:
        right.plot(epochs, [row[name] for row in history], label=name,
                   marker='.')
    right.set(xlabel='epoch', title='ranking', ylim=(0, None))
    for axes, names in [(left, losses), (right, metrics)]:
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(names) > 0:
            axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
