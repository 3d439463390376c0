import pytest
import torch
from oracle import BACKENDS, assert_close, random_rows

from diffmm_pyg.nn import ModalityConv, ModalityFusion, StackedAdj
from diffmm_pyg.nn.propagation import fused_propagation, general_propagation
from torch_geometric.nn import LGConv

U, I, F = 6, 5, 3
MODALITIES = ['image', 'text']


@pytest.mark.parametrize('conv', [
    ModalityConv(), LGConv(normalize=False)], ids=['ModalityConv', 'LGConv'])
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
    for fn, layer in [(general_propagation, conv),
                      (fused_propagation, ModalityConv())]:
        hidden, outs = fn(layer, adj,
                          dict(zip(MODALITIES, denoised, strict=True)), user,
                          item, feats, fusion, 0.3, 2, with_views, mask)
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
    for a, b in zip(general_propagation(ModalityConv(), *args)[1],
                    fused_propagation(ModalityConv(), *args)[1], strict=True):
        assert a.isfinite().all()
        assert_close(a, b)
