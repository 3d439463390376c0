import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))

from _experiments import datasets, folds, training  # noqa: E402
from _experiments.models import load_description, resolve  # noqa: E402
from _tuning import trial  # noqa: E402
from diffmm_pyg.data import data_hash  # noqa: E402
from diffmm_pyg.datasets import FakeMultiModalRec  # noqa: E402
from diffmm_pyg.errors import DataError  # noqa: E402
from diffmm_pyg.training.splits import positives  # noqa: E402
from diffmm_pyg.typing import INTERACTS, ITEM, USER  # noqa: E402


@pytest.mark.parametrize('fold', range(1, 5))
def test_folds_are_cut_from_training(fold):
    data = list(FakeMultiModalRec(300, 100, num_blocks=5))
    label = positives(data[1])
    data[1][INTERACTS].edge_label_index = label[:, label[0] % 3 == 0]
    own = data_hash(data[0])
    train, val = folds.cut_fold(data[:2], fold)
    kept, held_out, whole, label, test = [
        {tuple(x) for x in edges.t().tolist()} for edges in
        [train[INTERACTS].edge_index, positives(val),
         data[0][INTERACTS].edge_index, positives(data[1]),
         positives(data[2])]]
    assert kept.isdisjoint(held_out) and kept | held_out == whole
    assert (kept | held_out).isdisjoint(label | test)
    for graph, name in [(train, 'edge_label_index'), (val, 'edge_index')]:
        assert torch.equal(graph[INTERACTS][name], train[INTERACTS].edge_index)
    assert data_hash(data[0]) == own  # What is given is as it was.

    def counts(edges):
        user = torch.tensor([u for u, _ in edges])
        return torch.bincount(user, minlength=300)

    assert counts(kept).min() >= 1
    assert torch.equal(counts(held_out).sort().values,
                       counts(label).sort().values)
    assert 0 < len({u for u, _ in held_out if u % 3 == 0}) < 60  # Others, too.
    again, other = [positives(folds.cut_fold(data[:2], i)[1])
                    for i in [fold, fold + 1]]
    assert torch.equal(again, positives(val))
    assert not torch.equal(other, positives(val))


def test_folds_need_users_with_two_edges():
    train, val, _ = FakeMultiModalRec(20, 30, num_blocks=2)
    edge_index = torch.arange(20).repeat(2, 1)
    train[INTERACTS].edge_index = edge_index
    train[INTERACTS].edge_label_index = edge_index
    with pytest.raises(DataError, match="take the splits that"):
        folds.cut_fold([train, val], 1)


def test_a_dataset_split_at_random_knows_nothing_of_its_own_splits():
    own = datasets.load_dataset('fake', None, None)
    data = datasets.load_dataset('fake-random', None, None)
    train, val, test = splits = [
        {tuple(x) for x in positives(graph).t().tolist()} for graph in data]
    assert train | val | test == {
        tuple(x) for x in own[0][INTERACTS].edge_index.t().tolist()}
    degree = torch.bincount(own[0][INTERACTS].edge_index[0])
    assert len({u for u, _ in test}) == min(
        positives(own[2])[0].unique().numel(), int((degree > 1).sum()))
    assert sum(map(len, splits)) == own[0][INTERACTS].edge_index.size(1)
    assert min(torch.bincount(positives(data[0])[0])) >= 1
    for fold in range(folds.MAX_FOLDS):  # No search has such a test split.
        held_out = folds.cut_fold(own[:2], fold)[1]
        assert not {tuple(x) for x in positives(held_out).t().tolist()} <= test
    for graph in data:  # No graph has an edge that is held out.
        assert torch.equal(graph[INTERACTS].edge_index, positives(data[0]))
    assert datasets.hash_of(data) != datasets.hash_of(own)


def test_trials_share_the_trainings_of_parts(monkeypatch, tmp_path):
    data = datasets.load_own_fold('fake', None, None)
    config = resolve({
        'class': 'LateFusion', 'models': ['light_gcn', 'popularity'],
        'model': {'trained': True, 'weights': [1., 0.5]},
        'training': {'epochs': 2, 'lr': 0.01}}, 'fake')
    job = {'seed': 0, 'config': config}
    run, seconds = training.train(job, data, tmp_path / 'own')
    assert len(run.history) == 1 and seconds > run.history[0]['seconds']

    steps = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, 'step',
                        lambda *args, **kwargs: steps.append(0) or
                        step(*args, **kwargs))
    parts = tmp_path / 'parts'
    kept, _ = training.train(job, data, tmp_path / 'a', parts)
    assert len(steps) > 0
    del steps[:]
    config['model']['weights'] = [1., 0.25]
    other, again = training.train(job, data, tmp_path / 'b', parts)
    assert len(steps) == 0 and again > 0.
    for name, x in kept.state.items():
        torch.testing.assert_close(x, run.state[name])
        assert x.equal(other.state[name]) == (name != 'weights')
    assert run.metrics['val'] == kept.metrics['val']


def test_trials_cannot_see_the_test_split(monkeypatch, tmp_path):
    whole = datasets.load_dataset('fake', None, None)
    sizes = whole[0][USER].num_nodes, whole[0][ITEM].num_nodes
    secret = positives(whole[2])[0] * sizes[1] + positives(whole[2])[1]
    given = []

    def fit(model, data, **kwargs):
        given.append(data)
        return original(model, data, **kwargs)

    original = training.fit
    monkeypatch.setattr(training, 'fit', fit)
    config = resolve(load_description('ease'), 'fake')
    job = {'key': 'k', 'label': 'EASE', 'dataset': 'fake', 'seed': 0,
           'config': config, 'folds': 3, 'threads': 1, 'start': 0.}
    data = datasets.load_own_fold('fake', None, None)
    row = trial.measure(job, data, tmp_path / 'a', tmp_path / 'parts')
    assert [len(graphs) for graphs in given] == [2, 2, 2]
    for graph in [graph for graphs in given for graph in graphs]:
        for name, value in graph[INTERACTS].items():
            edges = value[0] * sizes[1] + value[1]
            assert not torch.isin(edges, secret).any(), name
    assert 'test' not in json.dumps(row)
    values = [fold['recall@20'] for fold in row['folds']]
    assert row['value'] == pytest.approx(sum(values) / 3)
    assert len(set(values)) == 3 and 0.2 < min(values)
    run, _ = training.train(job, whole, tmp_path / 'b')
    assert values[0] == pytest.approx(run.metrics['val']['recall@20'])

    # Neither does the name of a search tell anything of it:
    before = datasets.hash_of_fold(data)
    monkeypatch.setattr(datasets, 'load_dataset',
                        lambda *_: [*whole[:2], None])
    assert datasets.hash_of_fold(
        datasets.load_own_fold('fake', None, None)) == before
