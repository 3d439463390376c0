import subprocess
import sys

import pytest
import torch
from formats import FORMATS, sparse_tensor
from oracle import assert_close, generator

from diffmm_pyg.nn import ModalityConv

EDGE_INDEX = torch.tensor([[0, 1, 2, 3, 0], [0, 0, 1, 1, 3]])
NUM_SRC, NUM_DST = 4, 5
WEIGHT = torch.tensor([0.5, 2., 1., 3., 0.25])
SIZE = (NUM_SRC, NUM_DST)


def dense(edge_index, weight, size=SIZE):
    r"""The matrix [num_dst, num_src] of weighted edges."""
    out = weight.new_zeros(size[1], size[0])
    return out.index_put((edge_index[1], edge_index[0]), weight)


def test_modality_conv():
    conv = ModalityConv()
    assert str(conv) == 'ModalityConv()'
    assert sum(p.numel() for p in conv.parameters()) == 0
    x = torch.tensor([[1., 2.], [10., 20.], [3., 0.], [-1., 1.]])
    out = conv((x, None), EDGE_INDEX, WEIGHT, size=SIZE)
    assert out.tolist() == [[20.5, 41.], [0., 3.], [0., 0.], [0.25, 0.5],
                            [0., 0.]]
    assert torch.equal(conv((x, None), EDGE_INDEX, size=SIZE)[0], x[0] + x[1])


def test_square_with_root_weight():
    conv, x, root = ModalityConv(), torch.randn(4, 3), torch.rand(4)
    out = conv(x, EDGE_INDEX, WEIGHT, root)
    expected = dense(EDGE_INDEX, WEIGHT, (4, 4)) @ x + root.view(-1, 1) * x
    assert_close(out, expected)
    # The target's own features enter by the root weight alone.
    other = torch.randn(NUM_DST, 3)
    out = conv((x, other), EDGE_INDEX, WEIGHT, torch.ones(NUM_DST))
    assert_close(out, dense(EDGE_INDEX, WEIGHT) @ x + other)


@pytest.mark.parametrize('name', FORMATS)
@pytest.mark.parametrize('weight_grad', [False, True])
@pytest.mark.parametrize('transposed', [False, True])
def test_formats_agree(double, name, weight_grad, transposed):
    conv, g = ModalityConv(), generator(0)
    edge_index, size = EDGE_INDEX, SIZE
    if transposed:
        edge_index, size = EDGE_INDEX.flip([0]), SIZE[::-1]
    weight = WEIGHT.double().requires_grad_(weight_grad)
    x = torch.randn(size[0], 3, generator=g, requires_grad=True)
    factor = torch.randn(size[1], 3, generator=g)
    params = [x, weight] if weight_grad else [x]

    results = []
    for out in [
            dense(edge_index, weight, size) @ x,
            conv((x, None), edge_index, weight, size=size),
            conv((x, None), FORMATS[name](edge_index, weight, size)),
            conv((x, None), FORMATS[name](edge_index, weight, size),
                 size=size),
    ]:
        grads = torch.autograd.grad((factor * out).sum(), params)
        results.append([out, *grads])
    for result in results[1:]:
        for a, b in zip(result, results[0], strict=True):
            assert_close(a, b)


@pytest.mark.parametrize('name', FORMATS)
def test_formats_agree_with_root_weight(double, name):
    conv = ModalityConv()
    x = (torch.randn(NUM_SRC, 3), torch.randn(NUM_DST, 3))
    root, weight = torch.rand(NUM_DST), WEIGHT.double()
    assert_close(
        conv(x, FORMATS[name](EDGE_INDEX, weight, SIZE), root_weight=root),
        conv(x, EDGE_INDEX, weight, root))


def test_twice_through_the_same_matrix(double):
    # The transpose that the first backward pass caches serves the second.
    adj_t = sparse_tensor(EDGE_INDEX, WEIGHT.double(), SIZE)
    x = torch.randn(NUM_SRC, 3, requires_grad=True)
    for _ in range(2):
        out = ModalityConv()((x, None), adj_t)
        grad, = torch.autograd.grad(out.square().sum(), x)
        expected = (dense(EDGE_INDEX, WEIGHT.double()) @ x).square().sum()
        assert_close(grad, torch.autograd.grad(expected, x)[0])


def test_order_of_edges():
    conv, x = ModalityConv(), torch.randn(NUM_SRC, 3)
    out = conv((x, None), EDGE_INDEX, WEIGHT, size=SIZE)
    perm = torch.tensor([4, 2, 0, 3, 1])
    assert_close(conv((x, None), EDGE_INDEX[:, perm], WEIGHT[perm],
                      size=SIZE), out)
    adj_t = sparse_tensor(EDGE_INDEX[:, perm], WEIGHT[perm], SIZE)
    assert_close(conv((x, None), adj_t), out)


def test_order_of_nodes():
    conv, x = ModalityConv(), torch.randn(NUM_SRC, 3)
    out = conv((x, None), EDGE_INDEX, WEIGHT, size=SIZE)
    src, dst = torch.tensor([2, 0, 3, 1]), torch.tensor([4, 1, 0, 2, 3])
    # Node src[i] comes to place i.
    edge_index = torch.stack([src.argsort()[EDGE_INDEX[0]],
                              dst.argsort()[EDGE_INDEX[1]]])
    assert_close(conv((x[src], None), edge_index, WEIGHT, size=SIZE),
                 out[dst])


def test_flow():
    conv = ModalityConv(flow='target_to_source')
    x = torch.randn(4, 3)
    assert_close(conv(x, EDGE_INDEX, WEIGHT),
                 dense(EDGE_INDEX, WEIGHT, (4, 4)).t() @ x)


@pytest.mark.parametrize('name', FORMATS)
def test_weights_given_twice(name):
    adj_t = FORMATS[name](EDGE_INDEX, WEIGHT, SIZE)
    with pytest.raises(ValueError, match="'edge_weight' would be ignored"):
        ModalityConv()((torch.randn(NUM_SRC, 3), None), adj_t, WEIGHT)


def test_root_weight_without_features():
    with pytest.raises(ValueError, match="'root_weight' needs the features"):
        ModalityConv()((torch.randn(NUM_SRC, 3), None), EDGE_INDEX,
                       root_weight=torch.ones(NUM_DST), size=SIZE)


@pytest.mark.parametrize('name', ['SparseTensor', 'CSR'])
@pytest.mark.parametrize('aggr', ['add', 'mean', 'min', 'max', 'std'])
def test_formats_agree_on_aggregation(double, name, aggr):
    conv, weight = ModalityConv(aggr=aggr), WEIGHT.double()
    x = torch.randn(NUM_SRC, 3, generator=generator(0), requires_grad=True)
    results = []
    for out in [conv((x, None), EDGE_INDEX, weight, size=SIZE),
                conv((x, None), FORMATS[name](EDGE_INDEX, weight, SIZE))]:
        results.append([out, *torch.autograd.grad(out.square().sum(), x)])
    for a, b in zip(*results, strict=True):
        assert_close(a, b)


def test_mean_and_maximum():
    x = torch.tensor([[1.], [10.], [3.], [-1.]])
    adj_t = sparse_tensor(EDGE_INDEX, WEIGHT, SIZE)
    for aggr, expected in [('mean', [10.25, 0., 0., 0.25, 0.]),
                           ('max', [20., 3., 0., 0.25, 0.])]:
        out = ModalityConv(aggr=aggr)((x, None), adj_t)
        assert out.flatten().tolist() == expected


def test_no_warning_and_no_filter():
    sparse_tensor(EDGE_INDEX, WEIGHT, SIZE)  # Skips where there is none.
    code = """
import warnings
filters = list(warnings.filters)
import torch
from torch_sparse import SparseTensor
warnings.filters[:] = filters
from diffmm_pyg.nn.conv.spmm import spmm
assert not any('CSR' in str(f[1]) for f in warnings.filters)
warnings.simplefilter('error')
filters = list(warnings.filters)
spmm(SparseTensor.eye(2), torch.eye(2))
assert warnings.filters == filters
"""
    child = subprocess.run([sys.executable, '-c', code], capture_output=True,
                           text=True)
    assert child.returncode == 0, child.stderr
