import torch
from oracle import assert_close
from pairwise_problem import (
    CHANNELS,
    NUM_ITEMS,
    NUM_USERS,
    Step,
    make,
    random_data,
)
from small import small_fit

from diffmm_pyg.datasets import checkerboard
from diffmm_pyg.nn.models.vbpr import VBPR
from diffmm_pyg.typing import INTERACTS
from torch_geometric import seed_everything


def textbook_score(model, data, u, i):
    r"""Eq. 4 of the paper on all features side by side."""
    features, weights = [], []
    for m in CHANNELS:
        x = data['item'][f'x_{m}'][i]
        has = data['item'].get(f'has_{m}')
        present = has is None or bool(has[i])
        features.append(x / x.norm() if present else 0 * x)
        weights.append(model.lins[m].weight)
    f, weight = torch.cat(features), torch.cat(weights, dim=1)
    projection, bias = weight[:-1], weight[-1]
    return (model.item_bias.weight[i, 0] +
            model.user_embedding.weight[u] @ model.item_embedding.weight[i] +
            model.user_factor.weight[u] @ (projection @ f) + bias @ f)


def test_scores_equal_definition(double):
    for masked in [True, False]:
        data = random_data(masked)
        model = make(VBPR, data, feature_channels=3)
        user, item = model.embed(data)
        expected = torch.stack([
            torch.stack([textbook_score(model, data, u, i)
                         for i in range(NUM_ITEMS)])
            for u in range(NUM_USERS)
        ])
        assert_close(user @ item.t(), expected)
        # Rows on their own are those of the whole:
        index = torch.tensor([4, 0, 4])
        feat_dict = {m: data['item'][f'x_{m}'] for m in CHANNELS}
        rows, whole = (model(i, i, feat_dict)
                       for i in (index, torch.arange(NUM_ITEMS)))
        for a, b in zip(rows, whole, strict=True):
            assert_close(a, b[index])


def test_loss_equals_definition(double):
    data = random_data()
    model = make(VBPR, data, reg_weight=0.25)
    step = Step(model, data)
    users = torch.cat([model.user_embedding.weight,
                       model.user_factor.weight], dim=1)
    items = torch.cat([model.item_embedding.weight, model.item_bias.weight],
                      dim=1)
    expected = {
        'bpr': step.bpr(*model.embed(data)),
        'reg': 0.25 * step.reg(users, items),
        'reg_weights': 0.25 * sum((lin.weight**2).sum()
                                  for lin in model.lins.values()),
    }
    assert set(step.losses) == {'loss', *expected}
    for name, value in expected.items():
        assert_close(step.losses[name], value, what=name)


def test_features_that_an_item_lacks_do_not_count(double):
    data = random_data()
    model = make(VBPR, data)
    before = [*model.embed(data), Step(model, data).losses['loss']]
    data['item'].x_text[:2] = 1e3
    after = [*model.embed(data), Step(model, data).losses['loss']]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    data['item'].x_text[2] *= -1
    assert not torch.equal(before[1], model.embed(data)[1])


def test_one_modality_and_no_scale(double):
    data = random_data(masked=False)
    model = make(VBPR, data)
    before = model.embed(data)[1]
    data['item'].x_image *= 7.
    assert_close(model.embed(data)[1], before)


def test_new_items_are_ranked_by_content():
    # Item 0, which nobody has tried, is for users of the first of 4 blocks.
    data = checkerboard(40, 40, num_blocks=4)[0]
    edge_index = data[INTERACTS].edge_index
    data[INTERACTS].edge_index = edge_index[:, edge_index[1] != 0]
    seed_everything(0)
    model = VBPR(40, 40, {'image': 8, 'text': 4}, 16, 16)
    run = small_fit([data], model, epochs=20, lr=1e-2)
    score = (run.user_emb @ run.item_emb.t())[:, 0]
    assert score[::4].min() > score[torch.arange(40) % 4 != 0].max()
