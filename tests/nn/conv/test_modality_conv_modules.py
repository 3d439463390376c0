r"""The layer inside PyG's modules, on every form of a graph."""
import pytest
import torch
from formats import FORMATS
from oracle import assert_close

from diffmm_pyg.nn import ModalityConv
from torch_geometric import EdgeIndex
from torch_geometric.nn import HeteroConv, Sequential, to_hetero

SIZES = {'user': 4, 'item': 5}
EDGES = {
    ('user', 'to', 'item'): torch.tensor([[0, 1, 2, 3, 0], [0, 0, 1, 1, 3]]),
    ('item', 'rev_to', 'user'): torch.tensor([[3, 0, 4, 1], [0, 2, 2, 1]]),
}
METADATA = list(SIZES), list(EDGES)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = ModalityConv()

    def forward(self, x, edge_index, edge_weight):
        return self.conv(x, edge_index, edge_weight)


def sizes(edge_type):
    return SIZES[edge_type[0]], SIZES[edge_type[2]]


def make_graphs(name, weights):
    r"""The graphs in a format, and the weights that go beside them."""
    if name == 'edge_index':
        return EDGES, weights
    if name == 'EdgeIndex':
        return {t: EdgeIndex(edge_index, sparse_size=sizes(t))
                for t, edge_index in EDGES.items()}, weights
    return {t: FORMATS[name](edge_index, weights[t], sizes(t))
            for t, edge_index in EDGES.items()}, dict.fromkeys(EDGES)


def plain(x_dict, graphs, weights):
    out = {}
    for t in EDGES:
        x = (x_dict[t[0]], x_dict[t[2]])
        out[t[2]] = ModalityConv()(x, graphs[t], weights[t])
    return out


def hetero_conv(x_dict, graphs, weights):
    conv = HeteroConv({t: ModalityConv() for t in EDGES})
    return conv(x_dict, graphs, edge_weight_dict=weights)


def hetero_model(x_dict, graphs, weights):
    return to_hetero(Net(), METADATA)(x_dict, graphs, weights)


@pytest.mark.parametrize('module', [plain, hetero_conv, hetero_model])
@pytest.mark.parametrize('name', ['edge_index', 'SparseTensor', 'EdgeIndex',
                                  'CSR'])
def test_table(double, name, module):
    torch.manual_seed(0)
    x_dict = {t: torch.randn(n, 3).requires_grad_() for t, n in SIZES.items()}
    weights = {t: torch.rand(e.size(1)).requires_grad_()
               for t, e in EDGES.items()}
    params = [*x_dict.values(), *weights.values()]
    expected = {}
    for (src, _, dst), (row, col) in EDGES.items():
        adj_t = torch.zeros(SIZES[dst], SIZES[src]).index_put(
            (col, row), weights[src, _, dst])
        expected[dst] = adj_t @ x_dict[src]
    out = module(x_dict, *make_graphs(name, weights))
    results = []
    for outs in [out, expected]:
        x = torch.cat([outs['user'], outs['item']])
        results.append([x, *torch.autograd.grad(x.square().sum(), params)])
    for a, b in zip(*results, strict=True):
        assert_close(a, b)


def test_root_weights_of_an_edge_type():
    # By edge types: where several lead to a node, its own features enter once.
    x_dict = {t: torch.randn(n, 3) for t, n in SIZES.items()}
    t, other = EDGES
    conv = HeteroConv({t: ModalityConv() for t in EDGES})
    out = conv(x_dict, EDGES, root_weight_dict={t: torch.ones(SIZES['item'])})
    expected = plain(x_dict, EDGES, dict.fromkeys(EDGES))
    assert_close(out['item'], expected['item'] + x_dict['item'])
    assert_close(out['user'], expected['user'])


def test_sequential():
    args, x = 'x, edge_index, edge_weight', torch.randn(5, 3)
    model = Sequential(args, [(ModalityConv(), f'{args} -> x'),
                              torch.nn.ReLU(),
                              (ModalityConv(), f'{args} -> x')])
    edge_index, weight = EDGES['user', 'to', 'item'], torch.rand(5)
    conv = ModalityConv()
    expected = conv(conv(x, edge_index, weight).relu(), edge_index, weight)
    assert_close(model(x, edge_index, weight), expected)


@pytest.mark.parametrize('backend', ['eager', 'aot_eager'])
def test_compiled_without_a_graph_break(backend):
    torch.compiler.reset()
    x, weight = torch.randn(4, 3), torch.rand(5, requires_grad=True)
    edge_index = EDGES['user', 'to', 'item']
    conv = ModalityConv()
    compiled = torch.compile(conv, backend=backend, fullgraph=True)
    for args, kwargs in [
        (((x, torch.randn(5, 3)), edge_index, weight, torch.rand(5)), {}),
        (((x, None), edge_index, weight), {'size': (4, 5)}),
    ]:
        outs = [fn(*args, **kwargs) for fn in (compiled, conv)]
        grads = [torch.autograd.grad(out.square().sum(), weight)[0]
                 for out in outs]
        assert_close(*outs)
        assert_close(*grads)


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision(dtype):
    x, weight = torch.randn(4, 3, dtype=dtype), torch.rand(5, dtype=dtype)
    edge_index = EDGES['user', 'to', 'item']
    out = ModalityConv()((x, None), edge_index, weight, size=(4, 5))
    assert out.dtype == dtype
    expected = ModalityConv()((x.double(), None), edge_index, weight.double(),
                              size=(4, 5))
    # Two terms, each rounded, and their sum.
    error = (out.double() - expected).abs().max()
    assert error <= 3 * torch.finfo(dtype).eps * expected.abs().max()
