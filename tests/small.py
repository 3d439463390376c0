r"""Small data and trainings that the tests of training, runs and the command
line share.
"""
import os
import signal

import torch

from diffmm_pyg.data import modality_features
from diffmm_pyg.datasets import FakeMultiModalRec
from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.nn import DiffMM
from diffmm_pyg.presets import load_preset
from diffmm_pyg.runs.embeddings import embedding_tensors
from diffmm_pyg.testing import textbook
from diffmm_pyg.training import fit
from torch_geometric import seed_everything


def small_data(channels=None, **kwargs):
    return FakeMultiModalRec(60, 40, num_blocks=4, feature_channels=channels
                             or {'image': 6, 'text': 4}, **kwargs)


def small_model(data, preset='strict', seed=0, **kwargs):
    r"""The model of a preset, with everything but its sizes."""
    seed_everything(seed)
    config = load_preset(preset)
    channels = {m: x.size(1) for m, x in modality_features(data[0]).items()}
    num_users, num_items = data[0]['user'].num_nodes, data[0]['item'].num_nodes
    config['diffusion']['hidden_channels'] = 16
    diffusion = GraphDiffusion(num_items, list(channels),
                               **config['diffusion'])
    config['model'].update(hidden_channels=16, **kwargs)
    return DiffMM(num_users, num_items, channels, diffusion, **config['model'])


def with_losses(model, change):
    r"""Lets a function change the losses of every batch, by its key."""
    phases = model.phases

    def patched(data):
        return [phase._replace(loss=changed(phase.loss))
                for phase in phases(data)]

    def changed(loss):
        return lambda index, batch_size, key: change(
            loss(index, batch_size, key), key)

    model.phases = patched
    return model


def interrupt(model, position, signum=signal.SIGINT):
    r"""Lets a signal arrive within a step of a training, at an epoch, a phase
    and a batch.
    """
    def change(losses, key):
        if key[1:] == position:
            os.kill(os.getpid(), signum)
        return losses

    return with_losses(model, change)


def small_fit(data, model=None, preset='strict', **kwargs):
    kwargs = {
        'epochs': 3,
        'batch_size': 128,
        'top_k': 5,
        'device': 'cpu',
        'progress': False,
        **kwargs
    }
    return fit(small_model(data, preset) if model is None else model, data,
               **kwargs)


def dense(edge_index, run):
    out = torch.zeros(run.num_users, run.num_items, dtype=torch.bool)
    out[edge_index[0], edge_index[1]] = True
    return out


def textbook_metrics(run, name, seen, k):
    r"""The metrics of a split by the textbook, where the edges :obj:`seen`
    are not ranked.
    """
    mask = torch.stack([dense(run.graphs[s], run) for s in seen]).any(dim=0)
    scores, items = textbook.rank_items(run.user_emb, run.item_emb, mask, k)
    return textbook.ranking_metrics(scores, items,
                                    dense(run.graphs[name], run), [k])


def assert_same_run(a, b):
    r"""Bit for bit, but for the time that the epochs took."""
    assert a.metrics == b.metrics and a.ids == b.ids
    histories = [[{k: v for k, v in row.items() if k != 'seconds'}
                  for row in run.history] for run in (a, b)]
    assert histories[0] == histories[1]
    assert_same_tensors(a, b)


def assert_same_tensors(a, b):
    for x, y in [(a.state, b.state), (a.graphs, b.graphs),
                 tuple(embedding_tensors(run.user_emb, run.item_emb)
                       for run in (a, b))]:
        assert x.keys() == y.keys()
        for name in x:
            assert x[name].dtype == y[name].dtype
            assert x[name].equal(y[name]), name


def printed(metrics):
    r"""What the command line prints of metrics: four digits of each."""
    return {name: {k: round(x, 4) for k, x in value.items()}
            if isinstance(value, dict) else value
            for name, value in metrics.items()}


def files(folder):
    r"""The content of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob('*') if path.is_file()}


# A training of a few batches, for tests of what interrupts it:
SHORT = dict(epochs=3, batch_size=40)


def go_on(data, out, model=None, **kwargs):
    r"""Goes on with a short training by a model that has seen nothing."""
    model = small_model(data, seed=9) if model is None else model
    return small_fit(data, model, out=str(out), resume=True,
                     **{**SHORT, **kwargs})
