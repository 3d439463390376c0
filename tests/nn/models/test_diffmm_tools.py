r"""Tools of torch and PyG on the model and its data."""
import copy
import sys
from types import SimpleNamespace

import pytest
import torch
from oracle import assert_close, random_diffusion, random_rows
from small import small_data

from diffmm_pyg.nn import DiffMM, StackedAdj
from diffmm_pyg.transforms import add_denoised_edges
from diffmm_pyg.utils import inner_product_topk
from torch_geometric.nn import summary
from torch_geometric.transforms import ToUndirected

U, I, CHANNELS = 6, 5, {'image': 3, 'text': 2}


def build(**kwargs):
    return DiffMM(U, I, CHANNELS, random_diffusion(I, 2, 0),
                  hidden_channels=4, weighting='binary', **kwargs)


def inputs(sparse=False):
    torch.manual_seed(0)
    x_dict = {m: torch.randn(I, f) for m, f in CHANNELS.items()}
    adj, *denoised = [
        StackedAdj.from_edge_index(random_rows(U, I, seed)[0].edge_index, U,
                                   I, sparse=sparse) for seed in range(3)
    ]
    return x_dict, adj, dict(zip(CHANNELS, denoised, strict=True))


@pytest.mark.parametrize('conv', ['ModalityConv', 'SAGEConv'])
def test_compiled_without_a_graph_break(conv):
    torch.compiler.reset()
    model = build(conv=conv, denoised_conv=conv)
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    params = [model.item_embedding.weight, model.encoders['text'].lin.weight]
    results = []
    for fn in [compiled, model]:
        out = fn(*inputs())
        x = torch.cat([out.user, out.item, *out.views['text']])
        results.append([x, *torch.autograd.grad(x.square().sum(), params)])
    for a, b in zip(*results, strict=True):
        assert_close(a, b)


def test_exported_model():
    model = build()
    exported = torch.export.export(model, inputs()).module()
    assert_close(exported(*inputs()).item, model(*inputs()).item)


def test_exported_scorer():
    class Scorer(torch.nn.Module):
        def __init__(self, item_emb, k):
            super().__init__()
            self.register_buffer('item_emb', item_emb)
            self.k = k

        def forward(self, user_emb):
            return inner_product_topk(user_emb, self.item_emb, self.k)

    torch.manual_seed(0)
    users = torch.export.Dim('users')
    exported = torch.export.export(
        Scorer(torch.randn(I, 4), 3), (torch.randn(U, 4), ),
        dynamic_shapes=({0: users}, )).module()
    user_emb = torch.randn(9, 4)
    top = (user_emb @ exported.item_emb.t()).topk(3)
    value, index = exported(user_emb)
    assert_close(value, top.values)
    assert index.equal(top.indices)


def test_copies_are_independent():
    model = build(conv='SAGEConv')
    expected, other = model(*inputs()), copy.deepcopy(model)
    third = build(conv='SAGEConv')
    assert not third(*inputs()).user.equal(expected.user)
    third.load_state_dict(model.state_dict())
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    for copied in [other, third]:
        assert copied(*inputs()).user.equal(expected.user)
    assert not model(*inputs()).user.any()


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16, torch.double])
@pytest.mark.parametrize('conv', ['ModalityConv', 'GATConv'])
def test_precision_of_the_parameters(sparse, dtype, conv):
    torch.manual_seed(0)
    model = build(conv=conv, denoised_conv=conv)
    expected = model(*inputs(sparse))
    out = model.to(dtype)(*inputs(sparse))
    assert out.user.dtype == out.views['text'][1].dtype == dtype
    eps = max(torch.finfo(t).eps for t in (dtype, torch.float))
    for a, b in [(out.user, expected.user),
                 (out.views['text'][1], expected.views['text'][1])]:
        assert_close(a, b, tolerance=8 * eps)


def test_other_device():
    def move(adj):
        return StackedAdj(*(x.to('meta') for x in adj))

    x_dict, adj, denoised_adj_dict = inputs()
    out = build().to('meta')(
        {m: x.to('meta') for m, x in x_dict.items()}, move(adj),
        {m: move(adj) for m, adj in denoised_adj_dict.items()})
    assert out.user.is_meta and list(out.user.size()) == [U, 4]


def test_summary(monkeypatch):
    # What draws the table is a package of its own:
    table = SimpleNamespace(tabulate=lambda rows, **kwargs: rows)
    monkeypatch.setitem(sys.modules, 'tabulate', table)
    rows = summary(build(conv='SAGEConv'), *inputs(), max_depth=2)
    shapes = {row[0].lstrip('├─└│ '): row[1:] for row in rows}
    assert shapes['(text)ModalityEncoder'] == ['[5, 2]', '[5, 4]', '12']
    assert shapes['(observed_conv)StackedConv'] == ['[11, 4]', '[11, 4]',
                                                    '36']
    assert shapes['(conv)SAGEConv'][0].startswith('[11, 4], [2, ')


def test_homogeneous_data():
    data = small_data()[0]
    edges = random_rows(60, 40, 0)[0].edge_index
    weight = torch.rand(edges.size(1))
    add_denoised_edges(data, {'image': (edges, weight)})
    for store in data.edge_stores:
        store.edge_weight = store.get('edge_weight',
                                      torch.ones(store.num_edges))
    out = ToUndirected()(data).to_homogeneous()
    assert out.num_nodes == 100
    names = [edge_type[1] for edge_type in data.edge_types]
    part = out.edge_type == names.index('denoised_image')
    assert out.edge_index[:, part].equal(edges + torch.tensor([[0], [60]]))
    assert out.edge_weight[part].equal(weight)
