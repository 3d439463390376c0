import pytest
import torch
import torch.nn.functional as F
from movie_data import BUYS, FEATURES, RATES, movie_data
from oracle import assert_close, generator, random_diffusion, random_rows
from small import small_data

from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.diffusion.relation import relation_features, relation_rows
from diffmm_pyg.errors import ConfigError, DataError, RunError
from diffmm_pyg.nn.models.diff_rec import MODALITY, DiffRec
from diffmm_pyg.training import fit
from diffmm_pyg.typing import INTERACTS
from torch_geometric.data import Data


def make_diffusion(num_items=8, modalities=('image', 'text'), seed=0,
                   **kwargs):
    torch.manual_seed(seed)
    return GraphDiffusion(num_items, list(modalities), hidden_channels=6,
                          **kwargs)


def rows_of(data, edge_type, num_items):
    return relation_rows(make_diffusion(num_items), data, edge_type)


def test_equals_the_training_of_a_recommender():
    # The same denoiser in the loop that also ranks, saves and selects.
    data = small_data()
    kwargs = {'epochs': 3, 'batch_size': 16, 'seed': 5}
    multinomial = {'likelihood': 'multinomial'}
    actual = make_diffusion(40, [MODALITY], **multinomial)
    history = actual.fit(data[0], lr=1e-2, **kwargs)
    model = DiffRec(60, 40, make_diffusion(40, [MODALITY], **multinomial))
    run = fit(model, data, lr=1e-2, device='cpu', progress=False, **kwargs)
    assert [row['loss'] for row in history] == \
        [row['denoising/loss'] for row in run.history]


@pytest.mark.parametrize('likelihood, corruption', [
    ('gaussian', 'noise'), ('multinomial', 'noise'), ('multinomial', 'mask')])
def test_learns_any_relation(likelihood, corruption):
    # Users of either half rate the movies of that half, each but one.
    data = movie_data(num_users=24)
    user, movie = torch.ones(24, 8).nonzero().t()
    own = user % 2 == movie % 2
    left_out = movie // 2 == user // 2 % 4
    data[RATES].edge_index = torch.stack([user, movie])[:, own & ~left_out]
    diffusion = make_diffusion(likelihood=likelihood, corruption=corruption,
                               normalize=True, dropout=0.2)
    history = diffusion.fit(data, RATES, FEATURES, epochs=150,
                            batch_size=12, lr=1e-2)
    assert list(history[0]) == ['loss', 'elbo', 'msi'] and len(history) == 150
    assert history[-1]['loss'] < history[0]['loss']
    assert history[0]['msi'] > 0  # Of the features that were named.
    edges = diffusion.generate(rows_of(data, RATES, 8), 1, 'unseen')
    expected = torch.stack([user, movie])[:, own & left_out]
    for edge_index, _ in edges.values():
        assert torch.equal(edge_index, expected)


def test_reads_one_relation_and_leaves_data_alone():
    data = movie_data()
    before = data.to_dict()
    diffusion = make_diffusion()
    diffusion.fit(data, RATES, FEATURES, epochs=2)
    assert str(data.to_dict()) == str(before)
    other = movie_data()
    other[BUYS].edge_index = other[BUYS].edge_index[:, :1]
    other[RATES].edge_label_index = torch.tensor([[0], [0]])
    other['book'].x, other['tag'].x = torch.zeros(6, 4), torch.zeros(3, 2)
    again = make_diffusion()
    again.fit(other, RATES, FEATURES, epochs=2)
    for a, b in zip(diffusion.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_several_kinds_of_items():
    data = movie_data()
    for edge_type, num_items in [(RATES, 8), (BUYS, 6)]:
        rows = rows_of(data, edge_type, num_items)
        assert torch.equal(rows.edge_index, data[edge_type].edge_index)
        assert (rows.num_rows, rows.num_cols) == (12, num_items)
    diffusion = make_diffusion(6, ['any'])
    assert len(diffusion.fit(data, BUYS, {'any': 'x'}, epochs=2)) == 2


def test_rows_of_duplicate_edges():
    data = movie_data()
    data[RATES].edge_index = torch.tensor([[3, 1, 3], [2, 0, 2]])
    assert rows_of(data, RATES, 8).edge_index.tolist() == [[1, 3], [0, 2]]


def test_features_have_unit_norm_and_one_width():
    data = movie_data()
    data['movie'].plot[2] = float('nan')
    out = relation_features(make_diffusion(), data, 'movie', FEATURES)
    assert_close(out['image'], F.normalize(data['movie'].poster))
    plot = F.normalize(data['movie'].plot)
    plot[2] = 0
    assert_close(out['text'][:, :3], plot)
    assert out['text'].size() == (8, 5) and not out['text'][:, 3:].any()


@pytest.mark.parametrize('layout', [torch.sparse_coo, torch.sparse_csr])
def test_sparse_features(layout):
    data, sparse = movie_data(), movie_data()
    sparse['movie'].poster = data['movie'].poster.to_sparse(layout=layout)
    out, expected = (relation_features(make_diffusion(), x, 'movie', FEATURES)
                     for x in (sparse, data))
    assert torch.equal(out['image'], expected['image'])


@pytest.mark.parametrize('likelihood', ['gaussian', 'multinomial'])
@pytest.mark.parametrize('kwargs', [{}, {'num_sampled_items': 5}], ids=str)
def test_signal_without_projections(double, likelihood, kwargs):
    # Every modality is its own target; a row of zeros is as good as left out.
    diffusion = random_diffusion(8, 2, seed=0, likelihood=likelihood,
                                 msi_weight=2., **kwargs)
    rows, _ = random_rows(4, 8, seed=0)
    image, text = torch.randn(2, 8, 3, generator=generator(0))
    has, none = torch.arange(8) != 2, torch.zeros(8).bool()
    image[2] = 0
    out = diffusion.loss(rows, {'image': image, 'text': text})
    image[2] = 7
    feat_dict = {'image': image, 'text': text}
    expected = [
        diffusion.loss(rows, feat_dict, image, {'image': has, 'text': none}),
        diffusion.loss(rows, feat_dict, text, {'image': none}),
    ]
    assert all(x['msi'] > 0 for x in expected)
    assert_close(out['msi'], expected[0]['msi'] + expected[1]['msi'])
    nothing = diffusion.loss(rows)
    assert nothing['msi'] == 0
    assert_close(nothing['loss'], out['elbo'])
    assert_close(out['loss'], out['elbo'] + out['msi'])


def test_same_seed_same_parameters():
    states = []
    for seed in [0, 0, 1]:
        diffusion = make_diffusion()
        diffusion.fit(movie_data(), RATES, epochs=2, batch_size=5, seed=seed)
        states.append(diffusion.denoiser.weight_out.detach())
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def check_error(error, match, data=None, edge_type=RATES, diffusion=None,
                features=None, **kwargs):
    with pytest.raises(error, match=match) as info:
        (diffusion or make_diffusion()).fit(
            data or movie_data(), edge_type, features,
            epochs=kwargs.pop('epochs', 1), **kwargs)
    assert '\n' not in str(info.value)


def test_errors_of_relations():
    check_error(DataError, r"no relation \('user', 'interacts', 'item'\)",
                edge_type=INTERACTS)
    check_error(DataError, "The graph is a 'Data'; give a 'HeteroData'",
                Data(edge_index=torch.tensor([[0], [1]])))
    check_error(ConfigError, "6 'book' nodes, .* rows of length 8",
                edge_type=BUYS)
    data = movie_data()
    data[RATES].edge_index = torch.tensor([[0], [8]])
    check_error(DataError, 'names movie 8; movie indices .* 0..7', data)
    data[RATES].edge_index = torch.tensor([[12], [0]])
    check_error(DataError, 'names user 12; user indices .* 0..11', data)
    data[RATES].edge_index = torch.empty(2, 0, dtype=torch.long)
    check_error(DataError, r"\('user', 'rates', 'movie'\) has no edges", data)
    del data[RATES].edge_index
    check_error(DataError, r"'rates', 'movie'\].edge_index is missing", data)
    data = movie_data()
    data['user'].num_nodes = 0
    check_error(DataError, r"\['user'\].num_nodes is missing or 0", data)


def test_errors_of_features():
    check_error(ConfigError, r"modalities \['image'\], but .* 'text'\]",
                features={'image': 'poster'})
    check_error(DataError, r"data\['movie'\].cover does not exist; .*'poster'",
                features={'image': 'cover', 'text': 'plot'})
    data = movie_data()
    data['movie'].plot = torch.zeros(7, 3)
    check_error(DataError, r"plot must be .* \[8, F\] \(got .*, \[7, 3\]\)",
                data, features=FEATURES)
    data['movie'].plot = ['a'] * 8
    check_error(DataError, r"\[8, F\] \(got list\)", data, features=FEATURES)
    data['movie'].plot = torch.zeros(8, 0)
    check_error(DataError, r"\[8, F\] \(got torch.float32, \[8, 0\]", data,
                features=FEATURES)
    data['movie'].plot = torch.ones(8, 3) * 1j
    check_error(DataError, r"real numbers .*\(got torch.complex64, \[8, 3\]\)",
                data, features=FEATURES)
    data['movie'].plot = torch.zeros(8, 3)
    data['movie'].plot[4, 1] = float('nan')
    check_error(DataError, r"Row 4 of data\['movie'\].plot holds NaN",
                data, features=FEATURES)


@pytest.mark.parametrize('kwargs', [{'epochs': 0}, {'batch_size': 0},
                                    {'lr': 0.}, {'seed': -1}], ids=str)
def test_errors_of_numbers(kwargs):
    check_error(ValueError, f"'{list(kwargs)[0]}' must lie in", **kwargs)


def test_error_of_a_loss_that_is_not_finite():
    check_error(RunError, "'diffusion' is not finite in epoch", lr=1e30,
                epochs=9)
