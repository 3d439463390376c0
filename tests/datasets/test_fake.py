import numpy as np
import pytest
import torch

from diffmm_pyg.data import check_data, data_hash, modalities
from diffmm_pyg.datasets import FakeMultiModalRec, checkerboard
from diffmm_pyg.datasets.fake import draw_edges
from diffmm_pyg.errors import ConfigError
from diffmm_pyg.typing import INTERACTS


def test_fake_multi_modal_rec():
    dataset = FakeMultiModalRec()
    train, val, test = dataset
    assert len(dataset) == 3 and str(dataset) == 'FakeMultiModalRec(3)'
    for data in dataset:
        check_data(data)
        assert data['user'].num_nodes == 1000
        assert data['item'].num_nodes == 1000
        assert modalities(data) == ['image', 'text', 'audio']
        assert data['item'].x_image.size() == (1000, 64)
    # Every user can be trained on, and most have one item to find:
    assert train[INTERACTS].edge_index[0].unique().numel() == 1000
    for data in [val, test]:
        user = data[INTERACTS].edge_label_index[0]
        assert user.unique().numel() == user.numel() > 990
    keys = torch.cat([data[INTERACTS].edge_label_index for data in dataset], 1)
    assert keys.unique(dim=1).size(1) == keys.size(1)


def test_fake_multi_modal_rec_is_reproducible():
    hashes = [data_hash(FakeMultiModalRec(seed=s)[2]) for s in [0, 0, 1]]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize('noise', [0., 0.3, 1.])
def test_share_of_interactions_outside_the_block(noise):
    dataset = FakeMultiModalRec(2000, 1000, 10, interaction_noise=noise)
    user, item = dataset[0][INTERACTS].edge_index
    share = (user % 10 != item % 10).float().mean()
    # Of the items of any block, a tenth are of the own one.
    assert abs(float(share) - noise * 0.9) < 0.03
    if noise == 0:
        assert share == 0


def test_popularity_skew():
    dataset = FakeMultiModalRec(5000, 100, 5, avg_degree=4.,
                                popularity_skew=1., interaction_noise=0.)
    item = torch.cat([d[INTERACTS].edge_label_index[1] for d in dataset])
    count = item.bincount(minlength=100).view(20, 5).sum(dim=1)
    assert count[0] > 4 * count[10] > 0
    flat = FakeMultiModalRec(5000, 100, 5, avg_degree=4., popularity_skew=0.)
    item = torch.cat([d[INTERACTS].edge_label_index[1] for d in flat])
    count = item.bincount(minlength=100).float()
    assert count.max() < 1.3 * count.mean()


def test_features_carry_the_blocks():
    x = FakeMultiModalRec(num_blocks=10, feature_noise=0.5)[0]['item'].x_text
    center = torch.stack([x[b::10].mean(dim=0) for b in range(10)])
    assert (torch.cdist(x, center).argmin(dim=1) == torch.arange(1000) %
            10).all()
    noise = x - center[torch.arange(1000) % 10]
    assert abs(float(noise.std()) - 0.5) < 0.02
    x = FakeMultiModalRec(num_blocks=10, feature_noise=0.)[0]['item'].x_text
    assert x.equal(x[:10].repeat(100, 1))


def test_sizes_and_modalities_are_free():
    dataset = FakeMultiModalRec(7, 5, 2, avg_degree=1.,
                                feature_channels={'video': 3})
    assert modalities(dataset[0]) == ['video']
    assert dataset[0]['item'].x_video.size() == (5, 3)
    assert dataset[0][INTERACTS].edge_index[0].unique().numel() == 7


@pytest.mark.parametrize('channels', [None, {'image': 3, 'text': 2, 'b': 1}])
def test_chosen_modalities_do_not_depend_on_the_others(channels):
    kwargs = dict(feature_channels=channels)
    every = FakeMultiModalRec(**kwargs)[0]['item']
    for names in [['text'], ['text', 'image']]:
        data = FakeMultiModalRec(**kwargs, modalities=names)[0]
        assert modalities(data) == names
        for name in names:
            assert data['item'][f'x_{name}'].equal(every[f'x_{name}'])
    choices = ', '.join(channels or ['image', 'text', 'audio'])
    with pytest.raises(ConfigError, match=f"'c'; choose among {choices}$"):
        FakeMultiModalRec(**kwargs, modalities=['text', 'c'])


def test_draw_edges_takes_no_more_memory_than_edges():
    # A dense matrix of this size would have 10^11 entries.
    rng = np.random.default_rng(0)
    out = draw_edges(10**5, 10**6, 1000, 1., 0.1, 0.5, rng)
    assert out.size(1) == 10**5
    assert out[1].max() < 10**6


@pytest.mark.parametrize('kwargs', [
    dict(num_blocks=0),
    dict(num_blocks=1001),
    dict(avg_degree=0.5),
    dict(interaction_noise=1.5),
])
def test_fake_multi_modal_rec_errors(kwargs):
    with pytest.raises(ConfigError, match=next(iter(kwargs))):
        FakeMultiModalRec(**kwargs)


def test_transform_and_device():
    dataset = FakeMultiModalRec(transform=lambda data: data['item'].x_image)
    assert dataset[1].size() == (1000, 64)
    dataset = FakeMultiModalRec()
    assert dataset.to('cpu') is dataset
    assert len(dataset[:2]) == 2
    copied = dataset.copy([0, 2])
    assert len(copied) == 2
    copied[1]['item'].x_image.zero_()
    assert dataset[2]['item'].x_image.abs().sum() > 0
    assert dataset.num_node_features == {'user': 0, 'item': 0}
    assert len(list(dataset)) == 3


@pytest.mark.parametrize('num_blocks', [2, 5])
def test_checkerboard_has_one_answer(num_blocks):
    train, val, test = checkerboard(40, 20, num_blocks)
    assert modalities(train) == ['image', 'text']
    liked = torch.zeros(40, 20, dtype=torch.bool)
    liked[tuple(train[INTERACTS].edge_index)] = True
    same = torch.arange(40).view(-1, 1) % num_blocks == \
        torch.arange(20).view(1, -1) % num_blocks
    left = (same & ~liked).nonzero().t()
    # Every user has exactly one unseen item in the own block, and none seen
    # in another. Together the splits ask for all of them.
    assert left[0].equal(torch.arange(40))
    assert not (liked & ~same).any()
    labels = torch.cat([d[INTERACTS].edge_label_index for d in [val, test]], 1)
    assert labels[:, labels[0].argsort()].equal(left)
    assert val[INTERACTS].edge_label_index.size(1) == 20
    # Every item is withheld from few and liked by others:
    assert liked.sum(dim=0).min() > 0
    assert train['item'].x_image[0].equal(train['item'].x_image[num_blocks])


@pytest.mark.parametrize('num_items', [21, 2])
def test_checkerboard_errors(num_items):
    with pytest.raises(ConfigError, match='multiple of num_blocks=2'):
        checkerboard(num_items=num_items)
