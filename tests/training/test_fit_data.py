import copy
import logging

import pytest
import torch
from small import (
    assert_same_tensors,
    small_data,
    small_fit,
    small_model,
    textbook_metrics,
)

import torch_geometric.transforms as T
from diffmm_pyg.datasets import hetero_data_from_arrays
from diffmm_pyg.errors import ConfigError, DataError
from diffmm_pyg.typing import INTERACTS, REV_INTERACTS
from torch_geometric.utils import coalesce


@pytest.mark.parametrize('reverse', [False, True])
def test_random_link_split(reverse):
    data = copy.copy(small_data()[0])
    del data[INTERACTS].edge_label_index
    if reverse:
        data = T.ToUndirected()(data)
    torch.manual_seed(0)
    splits = T.RandomLinkSplit(
        0.1, 0.2, edge_types=[INTERACTS],
        rev_edge_types=[REV_INTERACTS if reverse else None])(data)
    run = small_fit(splits)

    train, val, test = [split[INTERACTS] for split in splits]
    assert run.graphs['observed'].equal(coalesce(train.edge_index))
    for name, store in [('val', val), ('test', test)]:
        assert 0 < store.edge_label.sum() < store.edge_label.numel()
        expected = store.edge_label_index[:, store.edge_label == 1]
        assert run.graphs[name].equal(coalesce(expected))
    # Its test graph holds the validation edges, too:
    assert test.edge_index.size(1) > train.edge_index.size(1)
    for name, seen in [('val', ['observed']), ('test', ['observed', 'val'])]:
        expected = textbook_metrics(run, name, seen, k=5)
        assert run.metrics[name] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('names', [['test'], ['val'], []])
def test_missing_splits(names, caplog):
    train, val, test = small_data()
    for name, split in [('val', val), ('test', test)]:
        if name not in names:
            split[INTERACTS].edge_label_index = torch.empty(2, 0).long()
    splits = [train, val, test][:3 if names else 1]
    with caplog.at_level(logging.WARNING, 'diffmm_pyg'):
        run = small_fit(splits, epochs=2, patience=1)
    assert [k for k in run.metrics if k in ['val', 'test']] == names
    assert list(run.evaluate()) == names
    has_val = 'val' in names
    assert ('There is no val split' in caplog.text) == (not has_val)
    if not has_val:  # The last epoch is kept, and training is not stopped.
        assert run.metrics['best_epoch'] == 2
    # What is not there to choose by, does not change what is trained:
    full = small_fit(small_data(), epochs=2)
    assert full.history[0]['ranking/loss'] == run.history[0]['ranking/loss']


def masked_data(fill, mask=None):
    splits = small_data()
    for data in (splits := list(splits)):
        if mask is None:
            mask = torch.arange(40) % 3 > 0
        data['item'].has_text = mask
        data['item'].x_text = torch.where(mask.view(-1, 1),
                                          data['item'].x_text, fill)
    return splits


def test_modality_masks():
    # What stands in place of missing features has no effect at all:
    run = small_fit(masked_data(0.), epochs=2)
    assert_same_tensors(run, small_fit(masked_data(1e3), epochs=2))
    # ... and a mask has one, unless it is full:
    everything = torch.ones(40, dtype=torch.bool)
    full = small_fit(masked_data(0., everything), epochs=2)
    none = small_fit(small_data(), epochs=2)
    assert full.user_emb.allclose(none.user_emb, rtol=1e-4, atol=1e-5)
    assert not run.user_emb.allclose(none.user_emb, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize('names', [['b'], ['b', 'a'], ['b', 'a', 'c']])
@pytest.mark.parametrize('anchor', ['main', 'modality'])
def test_modalities(names, anchor):
    data = small_data({name: 3 for name in names})
    model = small_model(data, anchor=anchor, k=2)
    run = small_fit(data, model, epochs=1)
    for name in names:
        weight = run.graphs[f'denoised_{name}.edge_weight']
        edge_index = run.graphs[f'denoised_{name}.edge_index']
        assert edge_index.size() == (2, 120) and weight.size() == (120, )
        assert weight.min() > 0
    assert sum(key.endswith('.edge_index') for key in run.graphs) == len(names)
    assert list(run.config['data']['channels']) == names


@pytest.mark.parametrize('preset', ['strict', 'reference'])
def test_users_and_items_without_edges(preset):
    # User 3 and item 4 have none, user 2 is only tested, and user 0 has seen
    # all items, so that there is no negative.
    train = torch.tensor([[0, 0, 0, 0, 0, 1, 1], [0, 1, 2, 3, 4, 0, 1]])
    train = train[:, train[1] != 4]
    with pytest.warns(UserWarning, match='have no training edge'):
        data = hetero_data_from_arrays(
            4, 5, train, torch.tensor([[1], [2]]), torch.tensor([[2], [3]]),
            features={'image': torch.randn(5, 3)})
    run = small_fit(data, preset=preset, top_k=2)
    assert run.user_emb.isfinite().all() and run.item_emb.isfinite().all()
    result = run.recommend(k=5)
    assert [len(items) for items in result.item] == [1, 3, 5, 5]
    assert result.item[0] == [4]


@pytest.mark.filterwarnings('ignore')
def test_one_user_who_has_seen_all():
    data = hetero_data_from_arrays(1, 1, torch.tensor([[0], [0]]),
                                   features={'image': torch.ones(1, 1)})
    run = small_fit(data, small_model(data, k=1), top_k=1)
    assert run.user_emb.isfinite().all()
    assert run.recommend(k=1).item == [[]]


@pytest.mark.parametrize('change, message', [
    (lambda d: setattr(d['item'], 'x_text', d['item'].x_text[:-1]),
     "modality 'text' have shape .39, 4."),
    (lambda d: setattr(d[INTERACTS], 'edge_index',
                       torch.tensor([[0, 1], [0, 40]])),
     "Column 1 of 'edge_index' names item 40"),
    (lambda d: setattr(d[INTERACTS], 'edge_label_index',
                       torch.tensor([[-1], [0]])),
     "Column 0 of 'edge_label_index' names user -1"),
    (lambda d: setattr(d[INTERACTS], 'edge_index', torch.empty(2, 0).long()),
     'The training split has no interaction'),
    (lambda d: d['item'].x_text[7].fill_(float('nan')),
     "Row 7 of the features of modality 'text'"),
])
def test_bad_data(change, message):
    splits = [copy.deepcopy(split) for split in small_data()]
    model = small_model(splits)
    change(splits[0])
    with pytest.raises(DataError, match=message):
        small_fit(splits, model)


def test_disjoint_training_edges_are_trained_on_and_masked():
    data = copy.copy(small_data()[0])
    del data[INTERACTS].edge_label_index
    torch.manual_seed(0)
    splits = T.RandomLinkSplit(0.1, 0.2, disjoint_train_ratio=0.5,
                               edge_types=[INTERACTS])(data)
    store = splits[0][INTERACTS]
    expected = torch.cat([store.edge_index,
                          store.edge_label_index[:, store.edge_label > 0]], 1)
    assert small_fit(splits).graphs['observed'].equal(coalesce(expected))


def test_model_recommends_as_its_run():
    data = small_data()
    model = small_model(data)
    with pytest.raises(ConfigError, match="give the graph"):
        model.recommend(k=3)
    run = small_fit(data, model)
    for a, b in zip(model.recommend([3, 5], k=4), run.recommend([3, 5], k=4),
                    strict=True):
        assert a == b if isinstance(a, list) else torch.equal(a, b)
    rebuilt = run.model()
    rebuilt.data = model.data
    assert rebuilt.recommend(k=2).item == run.recommend(k=2).item
    assert run.recommend(3, k=4).item == run.recommend(torch.tensor([3]),
                                                       k=4).item
