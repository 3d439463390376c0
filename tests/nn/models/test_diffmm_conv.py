r"""Any convolution in :class:`~diffmm_pyg.nn.DiffMM`, on both forms of the
graphs.
"""
import copy
import json
import sys

import pytest
import torch
from oracle import assert_close, random_diffusion, random_rows
from small import small_data, small_fit
from torch.nn import Linear

from diffmm_pyg.errors import ConfigError
from diffmm_pyg.nn import DiffMM, StackedAdj
from diffmm_pyg.nn.resolver import conv_name, conv_resolver
from diffmm_pyg.runs import describe_model, load
from torch_geometric.nn import (
    CGConv,
    GATConv,
    GINConv,
    LGConv,
    MessagePassing,
    SAGEConv,
    TransformerConv,
)

U, I, CHANNELS = 6, 5, {'image': 3, 'text': 2}
EDGES = [random_rows(U, I, seed)[0].edge_index for seed in range(3)]


class OwnConv(MessagePassing):
    def __init__(self, channels, scale=1.):
        super().__init__(aggr='sum')
        self.lin, self.scale = Linear(channels, channels), scale

    def forward(self, x, edge_index, edge_weight=None):
        out = self.propagate(edge_index, x=x, edge_weight=edge_weight)
        return self.scale * self.lin(out).tanh()

    def message(self, x_j, edge_weight):
        return edge_weight.view(-1, 1) * x_j


class UnpackingConv(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.lin = Linear(channels, channels)

    def forward(self, x, edge_index, edge_weight=None):
        row, col = edge_index
        message = edge_weight.view(-1, 1) * self.lin(x)[row]
        return torch.zeros_like(x).index_add(0, col, message)


class NamedDimConv(OwnConv):
    def __init__(self, channels, dim=64):
        super().__init__(channels)
        self.dim = dim


def test_dim_is_the_number_of_weights_only_where_it_is_known_to_be():
    assert conv_resolver('CGConv', 4).dim == 1
    assert conv_resolver(type('Own', (CGConv, ), {}), 4).dim == 1
    assert conv_resolver(NamedDimConv, 4).dim == 64


def gin_conv(channels):
    return GINConv(Linear(channels, channels))


# How a convolution is named, and how it is called by hand:
CONVS = {
    'LGConv': (LGConv, lambda conv, x, adj: conv(x, *adj)),
    'SAGEConv': ('SAGEConv', lambda conv, x, adj: conv(x, adj[0])),
    'GATConv': (GATConv, lambda conv, x, adj: conv(x, adj[0],
                                                   adj[1].view(-1, 1))),
    'GINConv': (gin_conv, lambda conv, x, adj: conv(x, adj[0])),
    'TransformerConv': ('TransformerConv', lambda conv, x, adj: conv(
        x, adj[0], adj[1].view(-1, 1))),
    'CGConv': ('CGConv', lambda conv, x, adj: conv(x, adj[0],
                                                   adj[1].view(-1, 1))),
    'GeneralConv': ('GeneralConv', lambda conv, x, adj: conv(
        x, adj[0], adj[1].view(-1, 1))),
    'OwnConv': (OwnConv, lambda conv, x, adj: conv(x, *adj)),
    'UnpackingConv': (UnpackingConv, lambda conv, x, adj: conv(x, *adj)),
}
UNWEIGHTED = ['SAGEConv', 'GINConv']


def build(seed=0, **kwargs):
    torch.manual_seed(seed)
    return DiffMM(U, I, CHANNELS, random_diffusion(I, 2, 0),
                  hidden_channels=4, **kwargs)


def features():
    torch.manual_seed(2)
    return {m: torch.randn(I, f) for m, f in CHANNELS.items()}


def graphs(weights, sparse=False):
    adj, *denoised = [
        StackedAdj.from_edge_index(edge_index, U, I, weight, sparse=sparse)
        for edge_index, weight in zip(EDGES, [None, *weights], strict=True)
    ]
    return adj, dict(zip(CHANNELS, denoised, strict=True))


def by_hand(model, x_dict, adj, denoised_adj_dict, observed, denoised):
    r"""The formula of the model, one modality after the other."""
    user, item = model.user_embedding.weight, model.item_embedding.weight
    hidden, views = 0., []
    for i, m in enumerate(CHANNELS):
        feat = torch.nn.functional.normalize(model.encoders[m](x_dict[m]))
        s1 = observed(torch.cat([user, feat]), adj)
        s2 = observed(torch.cat([s1[:U], item]), adj)
        g = denoised(m, torch.cat([user, item]), denoised_adj_dict[m])
        hidden = hidden + model.fusion.weight[i] * (s1 + s2 + 0.2 * g)
        view = denoised(m, torch.cat([user, feat]), denoised_adj_dict[m])
        views.append(view + observed(view, adj))
    out = hidden + observed(hidden, adj)
    return [out + 0.5 * torch.nn.functional.normalize(hidden), *views]


@pytest.mark.parametrize('name', CONVS)
def test_table(double, sparse, name):
    conv, call = CONVS[name]
    weighted = name not in UNWEIGHTED
    model = build(conv=conv, denoised_conv=conv,
                  weighting='score' if weighted else 'binary')
    x_dict = features()
    weights = [torch.rand(edge_index.size(1)) + 0.1 if weighted else None
               for edge_index in EDGES[1:]]
    params = [p for name, p in model.named_parameters()
              if not name.startswith('diffusion.')]
    params += [w.requires_grad_() for w in weights if weighted]

    out = model(x_dict, *graphs(weights, sparse))
    actual = [torch.cat([out.user, out.item]),
              *(torch.cat(view) for view in out.views.values())]
    expected = by_hand(
        model, x_dict, *graphs(weights),
        lambda x, adj: call(model.observed_conv.conv, x, adj),
        lambda m, x, adj: call(model.denoised_convs[m].conv, x, adj))
    results = []
    for outs in [actual, expected]:
        x = torch.stack(outs)
        loss = (torch.linspace(-1, 1, x.numel()).view_as(x) * x).sum()
        grads = torch.autograd.grad(loss, params, allow_unused=True,
                                    materialize_grads=True)
        results.append([x, *grads])
    for a, b in zip(*results, strict=True):
        assert_close(a, b)
    for grad in results[0][1 + len(params) - 2:] if weighted else []:
        assert (grad != 0).any()  # The denoised weights matter.


@pytest.mark.parametrize('name', UNWEIGHTED)
@pytest.mark.parametrize('kwargs', [
    {'weighting': 'score'}, {'weighting': 'binary', 'edge_dropout': 0.5}])
def test_weights_that_would_be_ignored(name, kwargs):
    conv = CONVS[name][0]
    with pytest.raises(ConfigError, match=f"'{conv_name(conv)}', which "
                       f"ignores the weights of edges; set 'weighting' to"):
        build(denoised_conv=conv, **kwargs)
    build(conv=conv, **kwargs)  # The observed graph has none.


def test_one_convolution_for_each_graph(double):
    model = build(conv='SAGEConv', denoised_conv='GATConv')
    convs = [model.observed_conv, *model.denoised_convs.values()]
    assert [type(c.conv) for c in convs] == [SAGEConv, GATConv, GATConv]
    names = [n for n, _ in model.named_parameters() if 'conv' in n]
    assert 'observed_conv.conv.lin_l.weight' in names
    assert 'denoised_convs.text.conv.lin_edge.weight' in names
    before = copy.deepcopy(model.state_dict())
    model.reset_parameters()
    for conv in ['observed_conv.conv.lin_l', 'denoised_convs.text.conv.lin']:
        assert not before[f'{conv}.weight'].equal(
            model.state_dict()[f'{conv}.weight'])


def test_same_products_by_another_convolution(double, sparse):
    # One way sums modalities before, the other after the observed graph.
    results = []
    for conv in ['ModalityConv', LGConv]:
        model = build(conv=conv, denoised_conv=conv)
        results.append(model(features(), *graphs([None, None], sparse)))
    assert_close(results[0].user, results[1].user)
    assert_close(results[0].views['text'][1], results[1].views['text'][1])


@pytest.mark.parametrize('conv, kwargs, message', [
    ('NoConv', None, "no convolution 'NoConv' in torch_geometric.nn"),
    ('this.Conv', None, "no convolution 'this.Conv'"),
    (SAGEConv(4, 4), None, 'pass a class, or a function that makes it'),
    (None, None, 'pass a class, or a function that makes it'),
    (GINConv, None, "'GINConv' cannot be made .* argument: 'nn'"),
    ('GATConv', {'head': 2}, "'GATConv' cannot be made .* 'head'"),
    ('GINConv', {'nn': Linear(4, 4)}, 'must be plain values .*Linear'),
    ('HypergraphConv', None, r"takes \['x', 'hyperedge_index'\]"),
    ('GCN2Conv', {'alpha': 1.}, r"takes \['x', 'x_0', 'edge_index'\]"),
    (lambda channels: len, None, "returned an object of type 'builtin_func"),
    (lambda channels: GATConv(4, 4), None, "make it with 'add_self_loops=Fa"),
    ('GATConv', {'add_self_loops': True}, "'GATConv' adds self-loops, but"),
    ('SGConv', {'cached': True}, "make it with 'cached=False'"),
    ('CuGraphSAGEConv', None, "'CuGraphSAGEConv' cannot be made"),
])
def test_convolutions_that_cannot_be_made(conv, kwargs, message):
    with pytest.raises(ConfigError, match=message) as info:
        build(conv=conv, conv_kwargs=kwargs)
    assert len(str(info.value).splitlines()) == 1
    assert 'this' not in sys.modules  # Nothing is imported for a name.


def test_convolution_of_another_width(sparse):
    model = build(conv='GATConv', conv_kwargs={'heads': 2, 'concat': True})
    with pytest.raises(ConfigError, match=r"'GATConv' made \[11, 8\] of "
                       r'\[11, 4\]; the sizes must be equal'):
        model(features(), *graphs([None, None], sparse))


def test_attention_that_was_made_without_features_of_edges():
    def attention(channels):
        return TransformerConv(channels, channels)

    assert not build(conv=attention).observed_conv.takes_weights
    with pytest.raises(ConfigError, match='attention.* ignores the weights'):
        build(denoised_conv=attention)


def rebuild(model):
    config = json.loads(json.dumps(describe_model(model)))
    return DiffMM.from_sizes(U, I, CHANNELS, **config['model'],
                             diffusion=config['diffusion'])


def test_description_rebuilds_the_model():
    model = build(conv=SAGEConv, conv_kwargs={'aggr': 'max'},
                  denoised_conv='TransformerConv')
    other = rebuild(model)
    assert other.observed_conv.conv.aggr == 'max'
    other.load_state_dict(model.state_dict())
    args = (features(), *graphs([None, None]))
    assert other(*args).user.equal(model(*args).user)


def test_namesake_of_a_convolution_of_pyg_is_not_taken_for_it():
    class SAGEConv(OwnConv):
        pass

    SAGEConv.__qualname__ = 'SAGEConv'
    model = build(conv=SAGEConv)
    assert model.conv == f'{__name__}.SAGEConv'
    with pytest.raises(ConfigError, match='no convolution .*test_diffmm_conv'):
        rebuild(model)


def test_run_with_a_convolution_of_ones_own(tmp_path):
    data = small_data()
    channels = {m: data[0]['item'][f'x_{m}'].size(1)
                for m in ['image', 'text']}
    model = DiffMM(60, 40, channels, random_diffusion(40, 2, 0),
                   hidden_channels=4, conv=OwnConv,
                   conv_kwargs={'scale': 2.})
    run = small_fit(data, model, epochs=1, out=str(tmp_path / 'run'))
    loaded = load(str(tmp_path / 'run'))
    assert loaded.recommend([3], 2).item == run.recommend([3], 2).item
    with pytest.raises(ConfigError, match=r"no convolution '.*OwnConv' .*pass "
                       'the class itself, or a function') as info:
        loaded.model()
    assert len(str(info.value).splitlines()) == 1
    again = loaded.model(conv=OwnConv)
    assert again.observed_conv.conv.scale == 2.
    assert (again.recommend([3], 2, data=model.data).item
            == run.recommend([3], 2).item)


@pytest.mark.parametrize('name', CONVS)
def test_training(name):
    conv, weighted = CONVS[name][0], name not in UNWEIGHTED
    data = small_data()
    channels = {m: data[0]['item'][f'x_{m}'].size(1)
                for m in ['image', 'text']}
    model = DiffMM(60, 40, channels, random_diffusion(40, 2, 0),
                   hidden_channels=4, conv=conv, denoised_conv=conv,
                   weighting='score' if weighted else 'binary')
    before = copy.deepcopy(model.state_dict())
    run = small_fit(data, model, epochs=1)
    assert run.user_emb.isfinite().all()
    moved = {k.split('.')[0] for k, v in run.state.items()
             if not v.equal(before[k])}
    assert {'user_embedding', 'encoders', 'fusion'} <= moved
    assert ('observed_conv' in moved) == ('denoised_convs' in moved) == (
        name != 'LGConv')
