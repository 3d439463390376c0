r"""DiffMM on subgraphs that the samplers of PyG draw."""
import pytest
import torch
from oracle import assert_close, assert_grads_close, generator, precision
from small import small_fit, small_model

import torch_geometric.typing
from diffmm_pyg.datasets import FakeMultiModalRec
from diffmm_pyg.errors import ConfigError, DataError, MissingExtraError
from diffmm_pyg.nn.models import Popularity
from diffmm_pyg.nn.models.diffmm_graphs import SampledGraph, WholeGraph
from diffmm_pyg.transforms import add_denoised_edges, sampling_graph
from diffmm_pyg.typing import INTERACTS, ITEM, USER
from torch_geometric.loader import LinkNeighborLoader, NeighborLoader

needs_sampler = pytest.mark.skipif(
    not (torch_geometric.typing.WITH_PYG_LIB
         or torch_geometric.typing.WITH_TORCH_SPARSE),
    reason="neither 'pyg-lib' nor 'torch-sparse' is installed")
pytestmark = pytest.mark.filterwarnings("ignore:.*without a 'pyg-lib'")

ALL = [-1, -1, -1]


def make_data(num_users=300, num_items=400, num_blocks=60, avg_degree=2.):
    r"""By default, a graph so thin that no batch sees all of it."""
    return FakeMultiModalRec(num_users, num_items, num_blocks, avg_degree,
                             {'image': 6, 'text': 4}, interaction_noise=0.)


class Problem:
    r"""A model, its graph with generated edges, and triplets."""
    def __init__(self, num_neighbors=ALL, **kwargs):
        self.data = make_data()[0]
        self.data[ITEM].has_text = torch.arange(400) % 3 > 0
        self.model = small_model(make_data(), num_neighbors=num_neighbors,
                                 **kwargs)
        g = torch.Generator().manual_seed(0)
        # Generated edges within a block, as the observed ones are:
        user = torch.arange(300).repeat(2)
        item = user % 60 + 60 * torch.randint(6, user.size(), generator=g)
        dtype = torch.get_default_dtype()
        add_denoised_edges(self.data, {
            m: (torch.stack([user, item.roll(shift * 60)]),
                torch.rand(600, generator=g, dtype=dtype) + 0.1)
            for shift, m in enumerate(self.model.modalities)
        })
        pos = self.data[INTERACTS].edge_index[:, ::90]
        # Users and items occur more than once, within and across columns:
        self.triplets = (pos[0].repeat(2), pos[1].repeat(2),
                         torch.cat([pos[1].roll(1), pos[1] + 60]))

    def graph(self, cls):
        out = cls(self.model, self.data)
        out.update()
        return out

    def batch(self):
        return self.graph(SampledGraph).batch(*self.triplets, generator(0))

    def loss(self, cls):
        return self.graph(cls).loss(*self.triplets, 8, generator(0))

    def output(self):
        graph = self.graph(WholeGraph)
        return self.model(graph.x_dict, graph.adj, graph.denoised_adj_dict,
                          graph.mask_dict)


def tensors(out):
    return [out.user, out.item,
            *(x for view in out.views.values() for x in view)]


def check_seeds(actual, expected, batch):
    nodes = [batch[USER].n_id, batch[ITEM].n_id]
    for i, (a, b) in enumerate(zip(tensors(actual), tensors(expected),
                                   strict=True)):
        assert_close(a, b[nodes[i % 2][:a.size(0)]])


@needs_sampler
@pytest.mark.parametrize('num_layers', [0, 1, 2])
@pytest.mark.parametrize('dtype', [torch.float, torch.double])
def test_whole_neighborhoods_are_the_whole_graph(dtype, num_layers):
    with precision(dtype):
        problem = Problem([-1] * (num_layers + 2), num_layers=num_layers,
                          ssl_weight=0.)
        batch = problem.batch()
        # As a graph of its own, the subgraph has other degrees.
        assert batch[USER].num_nodes < 150 and batch[ITEM].num_nodes < 300
        out = problem.model.batch_forward(batch)
        assert out.user.size(0) == problem.triplets[0].unique().numel()
        check_seeds(out, problem.output(), batch)
        assert torch.equal(batch[USER].n_id[batch[USER].src_index],
                           problem.triplets[0])
        sampled, whole = problem.loss(SampledGraph), problem.loss(WholeGraph)
        assert sampled.keys() == whole.keys() == {'loss', 'bpr', 'reg'}
        for name, value in whole.items():
            assert_close(sampled[name], value)
        params = [(name, p) for name, p in problem.model.named_parameters()
                  if not name.startswith('diffusion.')]
        assert_grads_close(sampled['loss'], whole['loss'], params)


@needs_sampler
def test_batches_of_other_graphs():
    problem = Problem()
    for batch in [sampling_graph(problem.data), problem.data,
                  next(iter(NeighborLoader(problem.data, ALL, USER)))]:
        with pytest.raises(DataError, match=r"for 'sampling_graph\(data\)'"):
            problem.model.batch_forward(batch)
    with pytest.raises(DataError, match="The graph is a 'Data'"):
        problem.model.batch_forward(problem.data.to_homogeneous())


@needs_sampler
def test_pairs_that_repeat_count_once(double):
    problem = Problem()
    expected, store = problem.output(), problem.data[INTERACTS]
    store.edge_index = torch.cat([store.edge_index,
                                  store.edge_index[:, :100]], dim=1)
    batch = problem.batch()
    check_seeds(problem.model.batch_forward(batch), expected, batch)
    assert_close(problem.output().user, expected.user)
    model = problem.model.eval()
    assert_close(model.embed(problem.data)[0], expected.user)
    why = model.explain(3, 3, problem.data)
    assert_close(torch.tensor(why.score), expected.user[3] @ expected.item[3])


@needs_sampler
@pytest.mark.parametrize('kwargs', [
    {'conv': 'LGConv'},
    {'conv': 'GATConv', 'denoised_conv': 'TransformerConv'},
    {'conv': 'SAGEConv'},
], ids=str)
def test_other_convolutions(double, kwargs):
    problem = Problem(**kwargs)
    batch = problem.batch()
    check_seeds(problem.model.batch_forward(batch), problem.output(), batch)


@needs_sampler
def test_contrasts_are_the_nodes_of_the_batch(double):
    problem = Problem(ssl_weight=1.)
    out, (user, pos, neg) = problem.output(), problem.triplets
    nodes = [user.unique(), torch.cat([pos, neg]).unique()]
    masks = {'text': problem.data[ITEM].has_text[nodes[1]]}
    part = type(out)(out.user[nodes[0]], out.item[nodes[1]], {
        m: (view[0][nodes[0]], view[1][nodes[1]])
        for m, view in out.views.items()
    })
    index = [torch.searchsorted(nodes[i > 0], x)
             for i, x in enumerate(problem.triplets)]
    expected = problem.model.loss(part, *index, 8, masks)
    assert_close(problem.loss(SampledGraph)['ssl'], expected['ssl'])
    assert problem.loss(WholeGraph)['ssl'] > 1.1 * expected['ssl']


@needs_sampler
def test_neighbors_stand_for_those_not_drawn(double):
    # Means over draws come close; without the factor, sums would shrink.
    data = make_data(60, 40, num_blocks=2, avg_degree=20.)
    model = small_model(data, num_neighbors=[8, 8], num_layers=0,
                        residual_weight=0.)
    train, node, draws = data[0], torch.arange(5), []
    add_denoised_edges(train, {
        m: (train[INTERACTS].edge_index, torch.ones(train.num_edges))
        for m in model.modalities
    })
    graph = SampledGraph(model, train)
    graph.update()
    for i in range(300):
        batch = graph.batch(node, node, node, generator(i))
        draws.append(model.batch_forward(batch).user.detach())
    draws, expected = torch.stack(draws), model.embed(train)[0][:5].detach()
    error = (draws.mean(dim=0) - expected).norm() / expected.norm()
    spread = draws.std(dim=0).norm() / expected.norm()
    assert spread > 0.05  # Something was left out,
    assert error < 3 * spread / 300**0.5  # but nothing on average.


@needs_sampler
def test_draws_depend_on_the_generator_alone():
    problem = Problem([1, 1, 1])
    graph, runs = problem.graph(SampledGraph), []
    for i, seed in enumerate([1, 1, 2]):
        torch.manual_seed(i)
        state = torch.get_rng_state()
        batch = graph.batch(*problem.triplets, generator(seed))
        assert torch.equal(torch.get_rng_state(), state)
        runs.append([store.e_id for store in batch.edge_stores])
    same = [all(map(torch.equal, runs[0], run)) for run in runs]
    assert same == [True, True, False]


@needs_sampler
def test_link_neighbor_loader():
    problem = Problem()
    loader = LinkNeighborLoader(sampling_graph(problem.data), ALL, INTERACTS,
                                neg_sampling='triplet', batch_size=50)
    out, sizes = problem.output(), []
    for batch in loader:
        sampled = problem.model.batch_loss(batch)
        triplets = [batch[USER].n_id[batch[USER].src_index],
                    batch[ITEM].n_id[batch[ITEM].dst_pos_index],
                    batch[ITEM].n_id[batch[ITEM].dst_neg_index]]
        whole = problem.model.loss(out, *triplets,
                                   mask_dict={'text': problem.data[ITEM]
                                              .has_text})
        assert_close(sampled['bpr'], whole['bpr'])
        sizes.append(triplets[0].numel())
    assert sum(sizes) == problem.data[INTERACTS].num_edges > 3 * max(sizes)


@needs_sampler
def test_neighbor_loader():
    problem = Problem()
    graph, expected = sampling_graph(problem.data), problem.output()
    for i, node_type in enumerate([USER, ITEM]):
        batches = [problem.model.batch_forward(batch, with_views=False)[i]
                   for batch in NeighborLoader(graph, ALL, batch_size=64,
                                               input_nodes=node_type)]
        assert len(batches) > 3
        assert_close(torch.cat(batches), expected[i])


@needs_sampler
def test_binary_negatives():
    problem = Problem()
    loader = LinkNeighborLoader(sampling_graph(problem.data), ALL, INTERACTS,
                                neg_sampling='binary', batch_size=50)
    batch, expected = next(iter(loader)), problem.output()
    check_seeds(problem.model.batch_forward(batch), expected, batch)
    with pytest.raises(DataError, match="no triplets; .*'triplet'"):
        problem.model.batch_loss(batch)
    loader = LinkNeighborLoader(
        sampling_graph(problem.data), ALL, INTERACTS, batch_size=50,
        neg_sampling={'mode': 'triplet', 'amount': 2})
    with pytest.raises(ConfigError, match='2 negatives per positive'):
        problem.model.batch_loss(next(iter(loader)))


@needs_sampler
def test_training_on_subgraphs_beats_popularity():
    data = make_data(200, 100, num_blocks=4, avg_degree=10.)
    runs = [small_fit(data, small_model(data, num_neighbors=[4, 2, 2]),
                      epochs=4, lr=1e-2) for _ in range(2)]
    assert runs[0].metrics == runs[1].metrics  # Bit for bit.
    assert runs[0].config['model']['num_neighbors'] == [4, 2, 2]
    popular = small_fit(data, Popularity(200, 100))
    assert (runs[0].metrics['test']['recall@5'] >
            1.5 * popular.metrics['test']['recall@5'])


@pytest.mark.parametrize('value', [[], [5, 5], [5, 0, 5], [5, -2, 5]])
def test_bad_numbers_of_neighbors(value):
    with pytest.raises(ValueError, match=r"'num_neighbors' must hold .* 3"):
        small_model(make_data(), num_neighbors=value)


@pytest.mark.parametrize('kwargs', [{'edge_dropout': 0.5},
                                    {'num_contrasts': 8}], ids=str)
def test_options_of_the_whole_graph(kwargs):
    model = small_model(make_data(), num_neighbors=ALL, **kwargs)
    with pytest.raises(ConfigError, match=f"use for .*'{next(iter(kwargs))}'"):
        model.phases(make_data()[0])


def test_without_a_sampler(monkeypatch):
    for name in ['WITH_PYG_LIB', 'WITH_TORCH_SPARSE']:
        monkeypatch.setattr(torch_geometric.typing, name, False)
    model = small_model(make_data(), num_neighbors=ALL)
    with pytest.raises(MissingExtraError, match=r"'torch-sparse' .*\[sparse"):
        model.phases(make_data()[0])
