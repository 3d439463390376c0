import pytest
import torch
from item_data import make_data
from oracle import (
    assert_close,
    random_diffusion,
    random_rows,
    textbook_params,
    textbook_schedule,
    textbook_scores,
)

from diffmm_pyg.diffusion import GraphDiffusion, graph_diffusion
from diffmm_pyg.nn.models.diff_rec import DiffRec
from diffmm_pyg.testing import textbook
from diffmm_pyg.utils import keyed_generator

KINDS = [{}, {'normalize': True}, {'likelihood': 'multinomial'},
         {'likelihood': 'multinomial', 'sampler': 'softmax'}]


def make_model(**kwargs):
    return DiffRec(9, 7, random_diffusion(7, 1, seed=0, **kwargs))


@pytest.mark.parametrize('kwargs', KINDS)
def test_ranks_by_the_reverse_process(double, monkeypatch, kwargs):
    data, x = make_data(0, 9, 7)
    model = make_model(**kwargs)
    monkeypatch.setattr(graph_diffusion, 'ROW_BLOCK_SIZE', 4)
    user, item = model.embed(data)
    score, expected = user @ item.t(), textbook_scores(model.diffusion, x)[0]
    if model.diffusion.likelihood == 'multinomial':
        score = score.log_softmax(dim=1)  # Ranks alike.
    assert_close(score, expected)


@pytest.mark.parametrize('kwargs', KINDS)
def test_loss_equals_textbook(double, kwargs):
    rows, x = random_rows(9, 7, seed=2)
    model = make_model(msi_weight=3., **kwargs).eval()  # No dropout.
    diffusion, key = model.diffusion, (4, 2)
    t = diffusion.process.sample_timesteps(9, keyed_generator(*key))
    noise = torch.randn(9, 7, generator=keyed_generator(*key, 0))
    params = textbook_params(diffusion.denoiser, 0)
    expected, _ = textbook.denoiser_loss(
        params, x, t, noise, textbook_schedule(diffusion.process),
        torch.zeros(7, 1), torch.zeros(7, 1),
        likelihood=diffusion.likelihood,
        normalize=diffusion.denoiser.normalize)
    if diffusion.likelihood == 'gaussian':
        expected = 7 * expected  # The sum over items, not their mean.
    losses = model.loss(rows, key)
    assert list(losses) == ['loss']
    assert_close(losses['loss'], expected.mean())
    params = list(model.parameters())
    for a, b in zip(torch.autograd.grad(losses['loss'], params),
                    torch.autograd.grad(expected.mean(), params),
                    strict=True):
        assert_close(a, b, floor=1.)


def test_phase_covers_all_parameters():
    data, _ = make_data(0, 9, 7)
    model = make_model()
    phase, = model.phases(data)
    assert phase.num_examples == 9
    assert {id(p) for p in phase.parameters} == \
        {id(p) for p in model.parameters()}
    index = torch.tensor([4, 2])
    loss = phase.loss(index, 5, (3, ))['loss']
    assert loss == model.loss(model.rows(data).select(index), (3, ))['loss']
    loss.backward()
    assert all((p.grad != 0).any() for p in model.parameters())


def test_from_sizes_and_errors():
    model = DiffRec.from_sizes(3, 5, {'image': 2, 'text': 4}, diffusion={
        'num_steps': 3,
        'hidden_channels': 4
    })
    assert model.diffusion.process.num_steps == 3
    assert str(model) == f'DiffRec(3, 5, {model.diffusion})'
    with pytest.raises(ValueError, match="'diffusion' must be of one mod"):
        DiffRec(3, 5, GraphDiffusion(5, ['a', 'b'], hidden_channels=4))
    with pytest.raises(ValueError, match="'num_items' is 6, .* for 5 items"):
        DiffRec(3, 6, GraphDiffusion(5, ['a'], hidden_channels=4))
    with pytest.raises(ValueError, match="must have 'noise' as its"):
        DiffRec(3, 5, GraphDiffusion(5, ['a'], hidden_channels=4,
                                     likelihood='multinomial',
                                     corruption='mask'))
