import pytest
import torch
from oracle import BACKENDS, assert_close, random_rows
from torch.nn import ModuleDict

from diffmm_pyg.nn import ModalityConv, ModalityFusion, StackedAdj
from diffmm_pyg.nn.propagation import is_linear, propagate
from diffmm_pyg.nn.stacked_conv import StackedConv
from torch_geometric.nn import LGConv

U, I, F = 6, 5, 3
MODALITIES = ['image', 'text']


class Derived(ModalityConv):
    r"""The same, but not known to be linear."""


class Nonlinear(ModalityConv):
    def message(self, x_j, edge_weight):
        return super().message(x_j, edge_weight).relu()


def convs(conv):
    r"""The same convolution for all graphs."""
    conv = StackedConv(conv)
    return conv, ModuleDict(dict.fromkeys(MODALITIES, conv))


@pytest.mark.parametrize('conv', [
    Derived(), LGConv(normalize=False)], ids=['Derived', 'LGConv'])
@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('with_views', [False, True])
@pytest.mark.parametrize('backend', BACKENDS)
def test_general_equals_fused(double, conv, masked, with_views, backend):
    torch.manual_seed(0)
    graphs = [random_rows(U, I, seed)[0].edge_index for seed in range(3)]
    adj, *denoised = [
        StackedAdj.from_edge_index(x, U, I, torch.rand(x.size(1)) + 0.1,
                                   sparse=backend) for x in graphs
    ]
    fusion = ModalityFusion(MODALITIES)
    torch.nn.init.normal_(fusion.logits)
    user, item = torch.randn(U, F), torch.randn(I, F)
    feats = {m: torch.randn(I, F) for m in MODALITIES}
    params = [user, item, *feats.values()]
    for x in params:
        x.requires_grad_()
    mask = {'text': torch.tensor([1, 0, 1, 1, 0]).bool()} if masked else None

    results = []
    for layer in [conv, ModalityConv()]:
        hidden, outs = propagate(
            *convs(layer), adj, dict(zip(MODALITIES, denoised, strict=True)),
            user, item, feats, fusion, 0.3, 2, with_views, mask)
        assert len(outs) == (3 if with_views else 1)
        out = torch.stack([hidden, *outs])
        factor = torch.linspace(-1, 1, out.numel()).view_as(out)
        results.append((out, *torch.autograd.grad(
            (factor * out).sum(), [*params, fusion.logits])))
    for a, b in zip(*results, strict=True):
        assert_close(a, b)


def test_vanishing_weight(double):
    graph = random_rows(U, I, 0)[0].edge_index
    adj = StackedAdj.from_edge_index(graph, U, I, sparse=False)
    fusion = ModalityFusion(MODALITIES)
    with torch.no_grad():
        fusion.logits[1] = -2000.
    args = (adj, dict.fromkeys(MODALITIES, adj), torch.randn(U, F),
            torch.randn(I, F), {m: torch.randn(I, F) for m in MODALITIES},
            fusion, 0.3, 1)
    outs = [propagate(*convs(conv), *args)[1]
            for conv in [Derived(), ModalityConv()]]
    for a, b in zip(*outs, strict=True):
        assert a.isfinite().all()
        assert_close(a, b)


@pytest.mark.parametrize('conv,linear', [
    (ModalityConv(), True),
    (ModalityConv(aggr='add'), True),
    (ModalityConv(aggr='mean'), True),
    (ModalityConv(aggr='max'), False),
    (Nonlinear(), False),
    (Derived(), False),  # Is so, but not known to be.
    (LGConv(normalize=False), False),
])
def test_is_linear(double, conv, linear):
    assert is_linear(StackedConv(conv)) == linear
    if type(conv) in [ModalityConv, Nonlinear]:
        graph = random_rows(U, I, 0)[0].edge_index
        adj = StackedAdj.from_edge_index(graph, U, I, sparse=False)
        x, y = torch.randn(2, U + I, F)
        error = conv(x - y, *adj) - (conv(x, *adj) - conv(y, *adj))
        assert (error.abs().max() < 1e-12) == linear
