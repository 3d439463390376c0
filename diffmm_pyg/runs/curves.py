from typing import Dict, List

from diffmm_pyg.errors import MissingExtraError


def plot_curves(history: List[Dict[str, float]], best_epoch: int,
                path: str) -> None:
    r"""Draws every loss, and the metrics, over epochs.

    Args:
        history ([Dict]): Losses and metrics of every epoch.
        best_epoch (int): The epoch that is kept, from 1.
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

    figure = Figure(figsize=(4 * (len(losses) + 1), 3.5),
                    layout='constrained')
    FigureCanvasAgg(figure)
    *loss_axes, ranking = figure.subplots(1, len(losses) + 1, squeeze=False)[0]
    for axes, name in zip(loss_axes, losses, strict=True):
        axes.plot(epochs, [row[name] for row in history], marker='.')
        axes.set(title=f"training of {name.removesuffix('/loss')}",
                 ylabel='loss, mean over batches')
    for name in metrics:
        ranking.plot(epochs, [row[name] for row in history], label=name,
                     marker='.')
    ranking.set(title='accuracy', ylabel='recall, NDCG', ylim=(0, None))
    for axes in [*loss_axes, ranking]:
        axes.axvline(best_epoch, color='gray', linestyle=':', zorder=0,
                     label=f'epoch {best_epoch} is kept')
        axes.set_xlabel('epoch')
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    ranking.legend(frameon=False)
    figure.savefig(path, dpi=120)
