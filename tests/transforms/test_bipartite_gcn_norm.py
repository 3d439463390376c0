import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_close, generator

from diffmm_pyg.errors import DataError
from diffmm_pyg.nn import ModalityConv, StackedAdj
from diffmm_pyg.testing import textbook
from diffmm_pyg.transforms import BipartiteGCNNorm, bipartite_gcn_norm
from diffmm_pyg.typing import INTERACTS, REV_INTERACTS, WITH_TORCH_SPARSE
from torch_geometric import transforms as T
from torch_geometric.data import HeteroData
from torch_geometric.nn import LGConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm

U, I = 5, 4
# User 4 and item 3 are isolated:
EDGE_INDEX = torch.tensor([[2, 0, 1, 0, 3], [1, 0, 1, 2, 0]])


def stacked(edge_index, num_users):
    edge_index = edge_index + torch.tensor([[0], [num_users]])
    return torch.cat([edge_index, edge_index.flip([0])], dim=1)


@given(num_users=st.integers(1, 7), num_items=st.integers(1, 7),
       weighted=st.booleans(), seed=st.integers(0, 2**31))
def test_equals_gcn_norm_of_stacked_graph(double, num_users, num_items,
                                          weighted, seed):
    g = generator(seed)
    edge_index = (torch.rand(num_users, num_items, generator=g) < 0.4) \
        .nonzero().t()
    num_edges = edge_index.size(1)
    weight = 2 * torch.rand(num_edges, generator=g) + 1e-3
    weight.requires_grad_()
    out = bipartite_gcn_norm(edge_index, num_users, num_items,
                             weight if weighted else None)
    _, expected = gcn_norm(stacked(edge_index, num_users),
                           weight.repeat(2) if weighted else None,
                           num_users + num_items, dtype=torch.double)
    actual = torch.cat([out[0], out[0], *out[1:]])
    assert_close(actual, expected)
    if weighted:
        factor = torch.rand(actual.size(), generator=g)
        grads = [torch.autograd.grad((factor * x).sum(), weight)[0]
                 for x in (actual, expected)]
        assert_close(*grads)

    x = torch.randn(num_users + num_items, 3, generator=g)
    adj = StackedAdj.from_edge_index(edge_index, num_users, num_items,
                                       weight if weighted else None,
                                       sparse=False)
    actual = ModalityConv()(x, *adj)
    loops = torch.arange(num_users + num_items).expand(2, -1)
    edges = torch.cat([stacked(edge_index, num_users), loops], dim=1)
    assert_close(actual, LGConv(normalize=False)(x, edges, expected))


@pytest.mark.parametrize('edge_index', [EDGE_INDEX, EDGE_INDEX[:, :0]],
                         ids=['edges', 'no edges'])
def test_isolated_nodes(edge_index):
    weight = torch.rand(edge_index.size(1), requires_grad=True)
    out, root_user, root_item = bipartite_gcn_norm(edge_index, U, I, weight)
    assert root_user[4] == 1 and root_item[3] == 1
    total = out.sum() + root_user.sum() + root_item.sum()
    assert total.isfinite()
    grad, = torch.autograd.grad(total, weight)
    assert grad.isfinite().all()


def test_tiny_weights():
    weight = torch.full((5, ), torch.finfo(torch.float).tiny,
                        requires_grad=True)
    out = bipartite_gcn_norm(EDGE_INDEX, U, I, weight)
    grad, = torch.autograd.grad(sum(x.sum() for x in out), weight)
    assert all(x.isfinite().all() for x in [*out, grad])


def make_data(weighted=False):
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = U, I
    data[INTERACTS].edge_index = EDGE_INDEX
    if weighted:
        data[INTERACTS].edge_weight = torch.arange(1, 6) / 2
    return data


@pytest.mark.parametrize('weighted', [False, True])
def test_transform(weighted):
    transform = BipartiteGCNNorm()
    assert str(transform) == ("BipartiteGCNNorm(('user', 'interacts', "
                              "'item'))")
    data = make_data(weighted)
    out = T.Compose([T.ToUndirected(), transform])(data)
    assert 'root_weight' not in data['user']  # The input stays as it is.
    expected = bipartite_gcn_norm(EDGE_INDEX, U, I,
                                  data[INTERACTS].get('edge_weight'))
    assert_close(out[INTERACTS].edge_weight, expected[0])
    assert_close(out['user'].root_weight, expected[1])
    assert_close(out['item'].root_weight, expected[2])

    x = torch.randn(U + I, 3)
    x_user, x_item = x.split([U, I])
    conv, rev = ModalityConv(), out[REV_INTERACTS]
    actual = torch.cat([
        conv((x_item, x_user), rev.edge_index, rev.edge_weight,
             out['user'].root_weight),
        conv((x_user, x_item), EDGE_INDEX, out[INTERACTS].edge_weight,
             out['item'].root_weight),
    ])
    adj = textbook.normalized_adjacency(EDGE_INDEX, U, I,
                                        data[INTERACTS].get('edge_weight'))
    assert_close(actual, adj @ x)


@pytest.mark.skipif(not WITH_TORCH_SPARSE,
                    reason="'torch-sparse' is not installed")
@pytest.mark.parametrize('weighted', [False, True])
def test_transform_to_sparse_tensor(weighted):
    data = make_data(weighted)
    out = T.Compose(
        [T.ToUndirected(), BipartiteGCNNorm(), T.ToSparseTensor()])(data)
    adj = textbook.normalized_adjacency(EDGE_INDEX, U, I,
                                        data[INTERACTS].get('edge_weight'))
    assert_close(out[INTERACTS].adj_t.to_dense(), adj[U:, :U])
    assert_close(out[REV_INTERACTS].adj_t.to_dense(), adj[:U, U:])
    x = torch.randn(U + I, 3)
    x_user, x_item = x.split([U, I])
    conv = ModalityConv()
    actual = torch.cat([
        conv((x_item, x_user), out[REV_INTERACTS].adj_t,
             root_weight=out['user'].root_weight),
        conv((x_user, x_item), out[INTERACTS].adj_t,
             root_weight=out['item'].root_weight),
    ])
    assert_close(actual, adj @ x)


def test_transform_error():
    with pytest.raises(DataError, match='no relation'):
        BipartiteGCNNorm(('user', 'buys', 'item'))(make_data())
