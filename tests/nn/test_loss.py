import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import MODALITIES, assert_close, generator, precision

from diffmm_pyg.nn import bpr_loss, contrastive_loss, info_nce_loss
from diffmm_pyg.testing import textbook
from diffmm_pyg.utils import logsumexp

DTYPES = [torch.double, torch.float]


def check_grads(actual, expected, params, floor=1e-3):
    for p in params:
        grads = [
            torch.autograd.grad(x, p, retain_graph=True, allow_unused=True,
                                materialize_grads=True)[0]
            for x in (actual, expected)
        ]
        assert_close(*grads, floor=floor)


@pytest.mark.parametrize('dtype', DTYPES)
@given(
    num_nodes=st.integers(1, 10),
    batch_size=st.integers(1, 12),  # Often larger: nodes repeat.
    temperature=st.sampled_from([0.01, 0.1, 0.5, 1.]),
    masked=st.booleans(),
    block=st.sampled_from([1, 20, 2**20]),
    seed=st.integers(0, 2**31),
)
def test_info_nce_equals_textbook(dtype, num_nodes, batch_size, temperature,
                                  masked, block, seed):
    with precision(dtype), pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(logsumexp, 'MAX_BLOCK_NUMEL', block)
        g = generator(seed)
        anchor = torch.randn(num_nodes, 4, generator=g, requires_grad=True)
        other = torch.randn(num_nodes, 4, generator=g, requires_grad=True)
        index = torch.randint(num_nodes, (batch_size, ), generator=g)
        mask = None
        if masked:
            mask = torch.rand(num_nodes, generator=g) < 0.6
            mask[seed % num_nodes] = True
        args = (anchor, other, index, temperature, mask)
        out, expected = info_nce_loss(*args), textbook.info_nce_loss(*args)
        # Differences of terms as large as the floor, which may cancel.
        assert_close(out, expected, floor=1 / temperature)
        check_grads(out, expected, [anchor, other], floor=1 / temperature)


def test_info_nce_of_itself(double):
    # Orthogonal views: one hit of similarity 1 among n - 1 of 0.
    loss = info_nce_loss(torch.eye(5), torch.eye(5), torch.arange(5), 0.5)
    assert float(loss) == pytest.approx(-2 + float(
        torch.tensor(4 + torch.e**2).log()))


@pytest.mark.parametrize('temperature', [0.5, 0.01])
def test_info_nce_where_no_node_takes_part(temperature):
    # Two modalities that no item has both of.
    x = torch.randn(4, 3, requires_grad=True)
    y = torch.randn(4, 3, requires_grad=True)
    loss = info_nce_loss(x, y, torch.tensor([0, 2, 2]), temperature,
                         torch.zeros(4, dtype=torch.bool))
    assert loss == 0
    loss.backward()
    assert (x.grad == 0).all() and (y.grad == 0).all()


def test_info_nce_of_zero_rows():
    # A view of an item that lacks the modality is zero, and masked.
    x = torch.zeros(3, 2, requires_grad=True)
    mask = torch.tensor([True, True, False])
    loss = info_nce_loss(x, x, torch.arange(3), 0.5, mask)
    loss.backward()
    assert loss.isfinite() and x.grad.isfinite().all()


@pytest.mark.parametrize('temperature', [0., -1., float('nan')])
def test_info_nce_temperature(temperature):
    x = torch.randn(3, 2)
    with pytest.raises(ValueError, match="'temperature' must be positive"):
        info_nce_loss(x, x, torch.arange(3), temperature)


def test_info_nce_bfloat16():
    g = generator(0)
    x = torch.randn(200, 16, generator=g, requires_grad=True)
    y = torch.randn(200, 16, generator=g)
    index = torch.randint(200, (64, ), generator=g)
    with torch.autocast('cpu', torch.bfloat16):
        out = info_nce_loss(x, y, index, 0.5)
    expected = info_nce_loss(x, y, index, 0.5)
    assert_close(out, expected, tolerance=0.01)
    assert_close(torch.autograd.grad(out, x)[0],
                 torch.autograd.grad(expected, x)[0], tolerance=0.03)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('anchor', ['main', 'modality'])
@given(
    num_users=st.integers(1, 8),
    num_items=st.integers(1, 8),
    num_modalities=st.integers(1, 3),
    masked=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_contrastive_equals_textbook(dtype, anchor, num_users, num_items,
                                     num_modalities, masked, seed):
    with precision(dtype):
        g, params = generator(seed), []

        def embeddings():
            for n in [num_users, num_items]:
                params.append(torch.randn(n, 4, generator=g,
                                          requires_grad=True))
            return tuple(params[-2:])

        final = embeddings()
        names = MODALITIES[:num_modalities]
        view_dict = {m: embeddings() for m in names}
        mask_dict = None
        if masked:  # The second modality is complete.
            mask_dict = {
                m: torch.rand(num_items, generator=g) < 0.6
                for m in names[::2]
            }
            for mask in mask_dict.values():
                mask[0] = True
        user = torch.randint(num_users, (6, ), generator=g)
        item = torch.randint(num_items, (6, ), generator=g)
        out = contrastive_loss(final, view_dict, user, item, 0.5, anchor,
                               mask_dict)
        expected = textbook.contrastive_loss(*final, view_dict, user, item,
                                             0.5, anchor, mask_dict)
        assert_close(out, expected, floor=2.)
        if out.requires_grad:
            check_grads(out, expected, params, floor=2.)
        else:  # A single modality has no pair.
            assert out == expected == 0


@pytest.mark.parametrize('batch_size', [None, 4, 7])
def test_bpr(double, batch_size):
    g = generator(0)
    user = torch.randn(5, 3, generator=g, requires_grad=True)
    item = torch.randn(6, 3, generator=g, requires_grad=True)
    users, pos, neg = torch.tensor([[0, 1, 1, 4], [5, 2, 3, 0],
                                    [1, 1, 0, 2]])
    x = user[users]
    out = bpr_loss((x * item[pos]).sum(dim=1), (x * item[neg]).sum(dim=1),
                   batch_size)
    expected = textbook.bpr_loss(user, item, users, pos, neg, batch_size or 4)
    assert_close(out, expected)
    check_grads(out, expected, [user, item])


def test_bpr_does_not_overflow():
    scores = torch.tensor([-1e4, 1e4])
    assert bpr_loss(scores, -scores) == 1e4


def sampled(x, y, index, mask=None, num_contrasts=3, seed=0):
    return info_nce_loss(x, y, index, 0.5, mask, num_contrasts,
                         generator(seed))


@pytest.mark.parametrize('masked', [False, True])
def test_sampled_info_nce_of_all_nodes_is_exact(double, masked):
    x = torch.randn(6, 4, requires_grad=True)
    y = torch.randn(6, 4, requires_grad=True)
    mask = torch.tensor([1, 0, 1, 1, 0, 1]).bool() if masked else None
    # A batch that holds every node leaves none to draw; duplicates count
    # once in the denominator, although twice in the sum.
    index = torch.tensor([0, 1, 2, 3, 3, 5, 4])
    actual = sampled(x, y, index, mask)
    expected = info_nce_loss(x, y, index, 0.5, mask)
    assert_close(actual, expected)
    check_grads(actual, expected, [x, y])


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('cuda', [False, True])
def test_sampled_denominator_is_unbiased(double, monkeypatch, masked, cuda):
    if cuda:  # There, duplicates are not taken together.
        monkeypatch.setattr(torch.Tensor, 'unique', lambda x, **_: (
            x, torch.ones_like(x)))
    x, y = torch.randn(7, 4), torch.randn(7, 4)
    mask = torch.tensor([1, 1, 1, 0, 1, 0, 1]).bool() if masked else None
    # Of one node, whose numerator is known, in a batch with another.
    index = torch.tensor([2, 2])
    ratio = [float(sampled(x, y, index, mask, 5, seed).exp())
             for seed in range(4000)]
    ratio = torch.tensor(ratio)
    expected = info_nce_loss(x, y, index, 0.5, mask).exp()
    error = ratio.std() / len(ratio)**0.5
    assert 0 < error < 0.02 * expected
    assert (ratio.mean() - expected).abs() < 4 * error


def test_sampled_denominator_is_unbiased_where_few_take_part(double):
    x, y = torch.randn(200, 4), torch.randn(200, 4)
    mask = torch.arange(200) % 10 == 0
    index = torch.tensor([0, 10])
    ratio = torch.tensor([
        float(sampled(x, y, index[:1], mask, 4, seed).exp())
        for seed in range(2000)
    ])
    expected = info_nce_loss(x, y, index[:1], 0.5, mask).exp()
    error = ratio.std() / len(ratio)**0.5
    assert 0 < error < 0.05 * expected
    assert (ratio.mean() - expected).abs() < 4 * error


@pytest.mark.parametrize('num_contrasts', [0, -1])
def test_sampled_info_nce_error(num_contrasts):
    x = torch.randn(3, 2)
    with pytest.raises(ValueError, match="'num_contrasts' must be at least"):
        info_nce_loss(x, x, torch.tensor([0]), 0.5, None, num_contrasts)


def test_sampled_info_nce_touches_what_it_drew(double):
    x = torch.randn(50, 4, requires_grad=True)
    y = torch.randn(50, 4, requires_grad=True)
    index = torch.tensor([1, 7])
    sampled(x, y, index, num_contrasts=5).backward()
    touched = y.grad.ne(0).any(dim=1)
    assert touched[index].all() and 3 <= int(touched.sum()) <= 7
    assert x.grad.ne(0).any(dim=1).nonzero().view(-1).tolist() == [1, 7]
    assert sampled(x, y, index, seed=1) != sampled(x, y, index, seed=2)
    assert sampled(x, y, index, seed=1) == sampled(x, y, index, seed=1)
