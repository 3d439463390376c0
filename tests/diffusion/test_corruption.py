from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from loss_inputs import assert_losses, make_inputs
from oracle import (
    assert_close,
    generator,
    precision,
    random_diffusion,
    random_rows,
    textbook_params,
)

from diffmm_pyg.data import observed_rows
from diffmm_pyg.diffusion import GraphDiffusion, objective
from diffmm_pyg.diffusion.corruption import draw_kept, training_rows
from diffmm_pyg.nn.models import DiffMM
from diffmm_pyg.testing import textbook
from diffmm_pyg.training import fit
from diffmm_pyg.typing import INTERACTS
from diffmm_pyg.utils import SparseRows, keyed_generator
from diffmm_pyg.utils.random import dropout_mask, quantized_keep
from torch_geometric.data import HeteroData


def masked_diffusion(num_items, num_modalities, seed, **kwargs):
    return random_diffusion(num_items, num_modalities, seed,
                            likelihood='multinomial', corruption='mask',
                            **{'dropout': 0., **kwargs})


def dense_loss(diffusion, x0, mask, features, item_emb, masks, dropout=None):
    r"""The hidden ones of dense rows, predicted from those that are kept."""
    kept, target = x0 * mask, x0 * ~mask
    step = torch.zeros(x0.size(0), dtype=torch.long)
    elbo, msi = 0., 0.
    for m, modality in enumerate(diffusion.modalities):
        out = textbook.denoise(textbook_params(diffusion.denoiser, m), kept,
                               step, normalize=diffusion.denoiser.normalize,
                               dropout_mask=dropout)
        log_prob = F.log_softmax(out, dim=1)
        elbo = elbo - (target * log_prob).sum(dim=1).mean()
        has = (masks or {}).get(modality, torch.ones(x0.size(1)))[:, None]
        predicted = target.sum(dim=1, keepdim=True) * log_prob.exp()
        error = predicted @ (features[modality] * has) - \
            target @ (item_emb * has)
        msi = msi + diffusion.msi_weight * error.square().mean(dim=1).mean()
    return elbo, msi


@pytest.mark.parametrize('dtype', [torch.double, torch.float])
@given(
    num_rows=st.integers(1, 8),
    num_items=st.integers(2, 12),
    num_modalities=st.integers(1, 3),
    normalize=st.booleans(),
    training=st.booleans(),
    with_masks=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_loss_equals_dense_rows(dtype, num_rows, num_items, num_modalities,
                                normalize, training, with_masks, seed):
    with precision(dtype):
        diffusion = masked_diffusion(num_items, num_modalities, seed,
                                     normalize=normalize).train(training)
        rows, x0 = random_rows(num_rows, num_items, seed)
        features, emb, masks, draws = make_inputs(diffusion, num_rows, seed,
                                                  with_masks)
        out = diffusion.loss(rows, features, emb, masks, mask=draws['mask'])
        assert_losses(out, *dense_loss(diffusion, x0, draws['mask'], features,
                                       emb, masks), diffusion)


@pytest.mark.parametrize('normalize', [False, True])
def test_dropout_falls_on_what_is_kept(double, normalize):
    diffusion = masked_diffusion(9, 2, 0, normalize=normalize, dropout=0.3)
    rows, x0 = random_rows(7, 9, 0)
    features, emb, _, draws = make_inputs(diffusion, 7, 0, False)
    mask = draws['mask']
    row, col = rows.edge_index[:, mask[rows.row, rows.col]]
    keep = dropout_mask(1, row.numel(), 0.3, keyed_generator(4)).view(-1)
    assert 0 < keep.sum() < keep.numel()
    dropout = torch.zeros_like(x0)
    dropout[row[keep], col[keep]] = 1 / quantized_keep(0.3)

    def loss():
        return diffusion.loss(rows, features, emb, seed=(4, ), mask=mask)

    assert_losses(loss(), *dense_loss(diffusion, x0, mask, features, emb, None,
                                      dropout), diffusion)
    diffusion.eval()
    assert_losses(loss(), *dense_loss(diffusion, x0, mask, features, emb,
                                      None), diffusion)


def test_a_sample_of_all_items_is_exact(double):
    exact = masked_diffusion(9, 2, 0, normalize=True)
    sampled = masked_diffusion(9, 2, 0, normalize=True, num_sampled_items=9)
    rows, _ = random_rows(7, 9, 0)
    features, emb, masks, _ = make_inputs(exact, 7, 0, True)
    a, b = [x.loss(rows, features, emb, masks, (3, ))
            for x in [exact, sampled]]
    assert_close(b['loss'], a['loss'])
    a['loss'].backward(), b['loss'].backward()
    for p, q in zip(exact.parameters(), sampled.parameters(), strict=True):
        assert_close(q.grad, p.grad)


def test_samples_of_items_are_right_on_average(double):
    # The error of the mean falls with the number of draws.
    exact = masked_diffusion(12, 1, 0, hidden_channels=3, msi_weight=0.)
    with torch.no_grad():
        for p in exact.parameters():  # Where the logarithm is almost linear.
            p.mul_(0.1)
    sampled = masked_diffusion(12, 1, 0, hidden_channels=3, msi_weight=0.,
                               num_sampled_items=6)
    sampled.load_state_dict(exact.state_dict())
    rows, _ = random_rows(20, 12, 1)
    keys = [(i, ) for i in range(200)]
    with torch.no_grad():
        a, b = [torch.stack([x.loss(rows, seed=key)['loss'] for key in keys])
                for x in [exact, sampled]]
    # Both drew the same kept ones, so that only the items differ:
    assert not a.equal(b)
    assert abs(float((b - a).mean())) < 0.01 * float(a.mean())


@given(num_rows=st.integers(1, 8), num_cols=st.integers(1, 12),
       seed=st.integers(0, 2**31))
def test_some_are_kept_and_some_hidden(num_rows, num_cols, seed):
    rows, _ = random_rows(num_rows, num_cols, seed)
    keep = draw_kept(rows, generator(seed))
    kept, hidden = rows.filter(keep), rows.filter(~keep)
    assert (kept.to_dense() + hidden.to_dense()).equal(rows.to_dense())
    assert (kept.count >= rows.count.clamp(max=1)).all()
    assert (hidden.count >= (rows.count > 1).long()).all()
    assert hidden.count[rows.count == 1].sum() == 0


def test_draws_are_uniform():
    # Three of four ones: 1, 2 or 3 are kept, and each with the same share.
    num_rows = 6000
    rows = SparseRows(4 * torch.arange(num_rows + 1),
                      torch.arange(4).repeat(num_rows), 4)
    keep = draw_kept(rows, generator(0)).view(-1, 4)
    count = keep.sum(dim=1).bincount(minlength=5)
    assert count[0] == count[4] == 0
    assert (count[1:4] - 2000).abs().max() < 150  # Four standard deviations.
    assert (keep.sum(dim=0) - 3000).abs().max() < 160
    pairs = keep[keep.sum(dim=1) == 2].long()
    assert (pairs.t() @ pairs)[0, 1:].sub(count[2] / 6).abs().max() < 75


def test_rows_of_one_teach_nothing(double, monkeypatch):
    diffusion = masked_diffusion(6, 2, 0)
    rows = SparseRows.from_edge_index(
        torch.tensor([[0, 2, 2, 3], [1, 0, 5, 4]]), 4, 6)
    assert training_rows(diffusion, rows).tolist() == [2]
    assert training_rows(random_diffusion(6, 1, 0), rows).tolist() == \
        [0, 1, 2, 3]
    alone = rows.select(torch.tensor([0, 1, 3]))
    out = diffusion.loss(alone, seed=(1, ))
    out['loss'].backward()
    assert out['loss'] == 0
    assert all(p.grad is None or not p.grad.any()
               for p in diffusion.parameters())
    with pytest.warns(UserWarning, match="No row has two entries"):
        assert training_rows(diffusion, alone).tolist() == [0, 1, 2]
    # In pieces, of which the last has less than others:
    expected = diffusion.loss(rows, seed=(1, ))['loss']
    monkeypatch.setattr(objective, 'MAX_BLOCK_NUMEL', 6 * 3)
    assert_close(diffusion.loss(rows, seed=(1, ))['loss'], expected)


def uneven_data():
    r"""Users of one, three, no, two and four interactions."""
    data = HeteroData({'item': {'x_image': torch.randn(6, 3)}})
    data['user'].num_nodes, data['item'].num_nodes = 5, 6
    data[INTERACTS].edge_index = torch.tensor(
        [[0, 1, 1, 1, 3, 3, 4, 4, 4, 4], [0, 0, 1, 2, 3, 4, 2, 3, 4, 5]])
    return data


def test_only_rows_of_two_or_more_are_trained_on(monkeypatch):
    data, seen = uneven_data(), []
    loss = GraphDiffusion.loss

    def recorded(self, rows, *args, **kwargs):
        seen.extend(map(tuple, rows.to_dense().long().tolist()))
        return loss(self, rows, *args, **kwargs)

    monkeypatch.setattr(GraphDiffusion, 'loss', recorded)
    diffusion = masked_diffusion(6, 1, 0)
    modality, = diffusion.modalities
    assert modality == 'image'
    dense = observed_rows(data).to_dense().long()
    expected = [tuple(dense[i].tolist()) for i in [1, 3, 4]]
    diffusion.fit(data, epochs=2, batch_size=2)
    assert Counter(seen) == Counter(2 * expected)
    seen.clear()
    model = DiffMM(5, 6, {'image': 3}, diffusion, hidden_channels=4,
                   denoiser_passes=3)
    fit(model, [data], epochs=1, batch_size=2, top_k=1, progress=False)
    assert Counter(seen) == Counter(3 * expected)


def test_what_does_not_go_together():
    for kwargs in [{}, {'likelihood': 'multinomial', 'sampler': 'softmax'}]:
        with pytest.raises(ValueError, match="'corruption' can be 'mask'"):
            random_diffusion(6, 1, 0, corruption='mask', **kwargs)
    with pytest.raises(ValueError, match="'corruption' must be one of"):
        random_diffusion(6, 1, 0, corruption='blur')
    rows, _ = random_rows(4, 6, 0)
    with pytest.raises(ValueError, match="'noise_step' is for denoisers"):
        masked_diffusion(6, 1, 0).generate(rows, noise_step=0)
    for name in ['num_steps', 'noise_scale', 'noise_min', 'noise_max',
                 'first_beta']:
        value = 7 if name == 'num_steps' else 0.015
        with pytest.raises(ValueError, match=f"'{name}' is about noise"):
            masked_diffusion(6, 1, 0, **{name: value})
    for kwargs in [{'timestep': torch.zeros(4).long()},
                   {'noise': torch.zeros(4, 6)}]:
        with pytest.raises(ValueError, match="'timestep' and 'noise' are"):
            masked_diffusion(6, 1, 0).loss(rows, **kwargs)
    for mask in [torch.ones(4, 6), torch.ones(4, 7).bool()]:
        with pytest.raises(ValueError, match="'mask' must be boolean, of sh"):
            masked_diffusion(6, 1, 0).loss(rows, mask=mask)
