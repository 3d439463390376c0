import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import (
    BACKENDS,
    MODALITIES,
    assert_close,
    generator,
    precision,
    random_diffusion,
    random_rows,
)

from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.nn import DiffMM, StackedAdj
from diffmm_pyg.testing import textbook

DTYPES = [torch.double, torch.float]


class Problem:
    r"""A random model on random graphs."""
    def __init__(self, num_users, num_items, num_modalities, masked, seed,
                 **kwargs):
        self.g = g = generator(seed)
        self.sizes = num_users, num_items
        self.modalities = MODALITIES[:num_modalities]
        self.model = DiffMM(
            *self.sizes, {m: 2 + i
                          for i, m in enumerate(self.modalities)},
            random_diffusion(num_items, num_modalities, seed),
            hidden_channels=4, **kwargs)
        self.params = {
            name: p
            for name, p in self.model.named_parameters()
            if not name.startswith('diffusion.')
        }
        with torch.no_grad():
            for p in self.params.values():
                p.copy_(torch.randn(p.size(), generator=g))

        rows, _ = random_rows(*self.sizes, seed)
        self.edge_index = rows.edge_index
        self.features, self.edges, masks = {}, {}, {}
        for i, m in enumerate(self.modalities):
            self.features[m] = torch.randn(num_items, 2 + i, generator=g)
            rows, _ = random_rows(*self.sizes, seed + 1 + i)
            weight = 2 * torch.rand(rows.col.numel(), generator=g) + 0.01
            self.edges[m] = (rows.edge_index, weight.requires_grad_())
            self.params[f'edge_weight {m}'] = weight
            masks[m] = torch.rand(num_items, generator=g) < 0.7
            masks[m][0] = True
        masks.pop(self.modalities[-1])  # The last one is complete.
        self.masks = masks if masked else None

    def output(self, sparse, **kwargs):
        return self.model(
            self.features, self.adj(self.edge_index, sparse=sparse), {
                m: self.adj(*edges, sparse=sparse)
                for m, edges in self.edges.items()
            }, self.masks, **kwargs)

    def adj(self, edge_index, edge_weight=None, **kwargs):
        return StackedAdj.from_edge_index(edge_index, *self.sizes,
                                            edge_weight, **kwargs)

    def expected(self):
        model, dtype = self.model, torch.get_default_dtype()
        adj = textbook.normalized_adjacency(self.edge_index, *self.sizes,
                                            dtype=dtype)
        adj_dict = {
            m: textbook.normalized_adjacency(edge_index, *self.sizes, weight)
            for m, (edge_index, weight) in self.edges.items()
        }
        features = {
            m: textbook.project(x, model.encoders[m].lin.weight,
                                model.encoders[m].lin.bias)
            for m, x in self.features.items()
        }
        return textbook.diffmm_embeddings(
            adj, adj_dict, model.user_embedding.weight,
            model.item_embedding.weight, features, model.fusion.logits,
            num_layers=model.num_layers, adj_weight=model.adj_weight,
            residual_weight=model.residual_weight, has_dict=self.masks)

    def check_grads(self, actual, expected, floor=1e-2):
        for name, p in self.params.items():
            grads = [
                torch.autograd.grad(x, p, retain_graph=True,
                                    allow_unused=True,
                                    materialize_grads=True)[0]
                for x in (actual, expected)
            ]
            assert_close(*grads, floor=floor, what=name)


SHAPES = {
    'num_users': st.integers(1, 8),
    'num_items': st.integers(1, 8),
    'num_modalities': st.integers(1, 3),
    'num_layers': st.integers(0, 3),
    'projection': st.sampled_from(['linear', 'leaky_relu']),
    'masked': st.booleans(),
    'sparse': st.sampled_from(BACKENDS),
    'seed': st.integers(0, 2**31),
}


@pytest.mark.parametrize('dtype', DTYPES)
@given(**SHAPES)
def test_outputs_equal_textbook(dtype, sparse, **kwargs):
    with precision(dtype):
        problem = Problem(adj_weight=0.7, residual_weight=0.3, **kwargs)
        out, (user, item, views) = problem.output(sparse), problem.expected()
        pairs = [(out.user, user), (out.item, item)]
        assert list(out.views) == list(views) == problem.modalities
        for m, view in views.items():
            pairs += zip(out.views[m], view, strict=True)
        loss1 = loss2 = torch.zeros(())
        for a, b in pairs:
            assert_close(a, b)
            factor = torch.randn(b.size(), generator=problem.g)
            loss1 = loss1 + (factor * a).sum()
            loss2 = loss2 + (factor * b).sum()
        # All outputs at once; sums of this many terms cancel.
        problem.check_grads(loss1, loss2, floor=1.)


@pytest.mark.parametrize('dtype', DTYPES)
@given(anchor=st.sampled_from(['main', 'modality']), **SHAPES)
def test_loss_equals_textbook(dtype, sparse, **kwargs):
    with precision(dtype):
        problem = Problem(ssl_weight=0.5, reg_weight=0.01, temperature=0.4,
                          **kwargs)
        model = problem.model
        num_users, num_items = problem.sizes
        users = torch.randint(num_users, (5, ), generator=problem.g)
        pos, neg = torch.randint(num_items, (2, 5), generator=problem.g)

        losses = model.loss(problem.output(sparse), users, pos, neg,
                            batch_size=8, mask_dict=problem.masks)
        user, item, views = problem.expected()
        expected = {
            'bpr':
            textbook.bpr_loss(user, item, users, pos, neg, 8),
            'reg':
            0.01 * textbook.l2_loss(model.user_embedding.weight,
                                    model.item_embedding.weight),
            'ssl':
            0.5 * textbook.contrastive_loss(user, item, views, users, pos,
                                            0.4, model.anchor, problem.masks),
        }
        assert set(losses) == {'loss', *expected}
        for name, value in expected.items():
            assert_close(losses[name], value, floor=1., what=name)
            assert not losses[name].requires_grad
        total = sum(expected.values())
        assert_close(losses['loss'], total)
        problem.check_grads(losses['loss'], total, floor=1.)


def test_full_masks_change_nothing(double, sparse):
    problem = Problem(6, 5, 3, masked=False, seed=0)
    out = problem.output(sparse)
    problem.masks = {m: torch.ones(5).bool() for m in problem.modalities}
    assert_close(problem.output(sparse).item, out.item)


def test_item_without_any_modality(double, sparse):
    problem = Problem(6, 5, 2, masked=False, seed=0)
    problem.masks = {m: torch.arange(5) != 2 for m in problem.modalities}
    out, (user, item, _) = problem.output(sparse), problem.expected()
    assert_close(out.user, user)
    assert_close(out.item, item)
    loss = problem.model.loss(out, torch.tensor([0, 1]), torch.tensor([2, 1]),
                              torch.tensor([0, 2]), mask_dict=problem.masks)
    loss['loss'].backward()
    for name, p in problem.params.items():
        assert p.grad.isfinite().all(), name


def test_no_generated_edges_to_items_without_the_modality(double, sparse):
    # What an item lacks, others make up for; to users, nothing changes.
    problem = Problem(6, 5, 2, masked=False, seed=0, num_layers=0,
                      adj_weight=1., residual_weight=0.)
    plain = problem.output(sparse)
    lacks = torch.arange(5) == 2
    problem.masks = {'image': ~lacks}
    masked = problem.output(sparse)
    assert_close(masked.item, problem.expected()[1])
    for edges, changes in [(problem.edges['image'][1], False),
                           (problem.edges['text'][1], True)]:
        grads = [torch.autograd.grad(out.item[lacks].sum(), edges,
                                     retain_graph=True)[0]
                 for out in (plain, masked)]
        assert (grads[0] != 0).any()
        assert (grads[1] != 0).any() == changes
        grads = [torch.autograd.grad(out.user.sum(), edges,
                                     retain_graph=True)[0]
                 for out in (plain, masked)]
        assert_close(*grads)


def test_without_views(double, sparse):
    problem = Problem(6, 5, 3, masked=True, seed=0)
    out = problem.output(sparse)
    other = problem.output(sparse, with_views=False)
    assert other.views == {}
    assert_close(other.user, out.user)
    assert_close(other.item, out.item)


def test_order_of_graphs_does_not_matter(double):
    problem = Problem(6, 5, 3, masked=True, seed=0)
    out = problem.output(sparse=False)
    problem.edges = dict(reversed(problem.edges.items()))
    other = problem.output(sparse=False)
    assert_close(other.user, out.user)
    for m, view in out.views.items():
        assert_close(other.views[m][0], view[0], what=m)
        assert_close(other.views[m][1], view[1], what=m)


def test_gradient_through_generation(double):
    # From the loss of the recommender into the denoisers, as in the oracle.
    problem = Problem(6, 5, 2, masked=False, seed=0)
    diffusion = problem.model.diffusion
    rows, x0 = random_rows(6, 5, seed=0)
    problem.edges = diffusion.generate(rows, k=2, differentiable=True)
    problem.params = dict(diffusion.named_parameters())
    out, expected = problem.output(sparse=False), problem.expected()
    problem.check_grads(out.user.square().sum(), expected[0].square().sum())
    grad = torch.autograd.grad(out.user.square().sum(),
                               diffusion.denoiser.weight_out)[0]
    assert (grad != 0).any()


def test_initialization():
    model = DiffMM(400, 300, {'a': 3, 'b': 5},
                   GraphDiffusion(300, ['a', 'b'], hidden_channels=200),
                   hidden_channels=64, projection='leaky_relu')
    for p in [model.user_embedding.weight, model.encoders['b'].lin.weight]:
        bound = (6 / sum(p.size()))**0.5
        assert p.abs().max() <= bound
        assert abs(p.std() / (bound / 3**0.5) - 1) < 0.1
    assert model.fusion.weight.tolist() == [0.5, 0.5]
    denoiser = model.diffusion.denoiser
    for p, fans in [(denoiser.weight_in, 310 + 200),
                    (denoiser.weight_time, 310 + 200),
                    (denoiser.weight_out, 300 + 200),
                    (denoiser.weight_code, 10 + 10)]:
        assert abs(p.std() / (2 / fans)**0.5 - 1) < 0.15
    assert abs(denoiser.bias_out.std() / 1e-3 - 1) < 0.15
    before = {k: p.clone() for k, p in model.named_parameters()}
    model.reset_parameters()
    for name, p in model.named_parameters():
        assert name == 'fusion.logits' or not torch.equal(p, before[name])


def test_str_and_errors():
    diffusion = GraphDiffusion(5, ['a', 'b'], hidden_channels=4)
    model = DiffMM(6, 5, {'a': 3, 'b': 2}, diffusion)
    assert str(model) == "DiffMM(6, 5, modalities=['a', 'b'], num_layers=1)"
    assert str(model.encoders['a']) == \
        "ModalityEncoder(3, 64, projection='linear')"
    assert str(model.fusion) == "ModalityFusion(['a', 'b'])"
    with pytest.raises(ValueError, match="'in_channels' names"):
        DiffMM(6, 5, {'a': 3}, diffusion)
    with pytest.raises(ValueError, match="'anchor' must be"):
        DiffMM(6, 5, {'a': 3, 'b': 2}, diffusion, anchor='both')
    with pytest.raises(ValueError, match="'projection' must be"):
        DiffMM(6, 5, {'a': 3, 'b': 2}, diffusion, projection='mlp')
    with pytest.raises(ValueError, match="'num_items' is 7, .* for 5 items"):
        DiffMM(6, 7, {'a': 3, 'b': 2}, diffusion)
    model = DiffMM(6, 5, {'a': 3, 'b': 2}, diffusion, hidden_channels=1)
    assert model.user_embedding.weight.size() == (6, 1)
    with pytest.raises(ValueError, match="'hidden_channels' must lie in"):
        DiffMM(6, 5, {'a': 3, 'b': 2}, diffusion, hidden_channels=0)
    for k in [0, 6]:
        with pytest.raises(ValueError, match=f"'k' must .* 1..5, .*got {k}"):
            DiffMM(6, 5, {'a': 3, 'b': 2}, diffusion, k=k)


@pytest.mark.parametrize('name', ['adj_weight', 'residual_weight',
                                  'ssl_weight', 'reg_weight'])
@pytest.mark.parametrize('value', [-1., float('nan'), float('inf')])
def test_weights_out_of_range(name, value):
    diffusion = GraphDiffusion(5, ['a'], hidden_channels=4)
    with pytest.raises(ValueError, match=f"'{name}' must lie in"):
        DiffMM(6, 5, {'a': 3}, diffusion, **{name: value})
