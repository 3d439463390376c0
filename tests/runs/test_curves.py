import matplotlib.figure

from diffmm_pyg.runs.curves import plot_curves


def test_what_is_drawn(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(matplotlib.figure.Figure, 'savefig',
                        lambda self, *_, **__: figures.append(self))
    history = [{'epoch': i, 'diffusion/loss': 1e-3 / i, 'ranking/loss': 9. / i,
                'val/recall@5': 0.1 * i, 'val/precision@5': 0.1,
                'seconds': 1.} for i in [1, 2, 3]]
    plot_curves(history, 2, str(tmp_path / 'curves.png'))

    diffusion, ranking, metrics = figures[0].axes
    for axes, values in [(diffusion, [1e-3, 1e-3 / 2, 1e-3 / 3]),
                         (ranking, [9., 4.5, 3.]), (metrics, [.1, .2, .3])]:
        curve, kept = axes.lines
        assert list(curve.get_xdata()) == [1, 2, 3]
        assert abs(curve.get_ydata() - values).max() < 1e-12
        assert list(kept.get_xdata()) == [2, 2]
        assert axes.get_xlabel() == 'epoch' and axes.get_ylabel() != ''
    assert [text.get_text() for text in metrics.get_legend().get_texts()] == [
        'val/recall@5', 'epoch 2 is kept']
