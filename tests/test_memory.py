r"""No tensor may have an entry for every pair of a user and an item where the
users are twenty batches or more.
"""
import pytest
import torch
from oracle import MODALITIES, random_diffusion
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.evaluation import evaluate
from diffmm_pyg.nn import DiffMM
from diffmm_pyg.typing import INTERACTS
from diffmm_pyg.utils import SparseRows
from torch_geometric.data import HeteroData

BATCH_SIZE = 2048
NUM_USERS, NUM_ITEMS = 20 * BATCH_SIZE, 300


class LargestTensor(TorchDispatchMode):
    r"""Watches the output of every operator, backward passes included."""
    def __init__(self):
        super().__init__()
        self.numel, self.name = 0, ''

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            # Not that of views, which may be expanded.
            if isinstance(x, torch.Tensor) and x.layout == torch.strided:
                numel = x.untyped_storage().nbytes() // x.element_size()
                if numel > self.numel:
                    self.numel, self.name = numel, str(func)
        return out


@pytest.fixture(scope='module')
def data():
    out, g = HeteroData(), torch.Generator().manual_seed(0)
    out['user'].num_nodes, out['item'].num_nodes = NUM_USERS, NUM_ITEMS
    for m in MODALITIES[:2]:
        out['item'][f'x_{m}'] = torch.randn(NUM_ITEMS, 3, generator=g)
    user = torch.arange(NUM_USERS).repeat(2)
    item = torch.randint(NUM_ITEMS, (2, 2 * NUM_USERS), generator=g)
    out[INTERACTS].edge_index = torch.stack([user, item[0]])
    out[INTERACTS].edge_label_index = torch.stack([user, item[1]])
    return out


def test_watches_everything():
    x = torch.randn(20, 3, requires_grad=True)
    with LargestTensor() as largest:
        torch.randn(10, 1).expand(10, 1000)
        assert largest.numel == 10
        (x @ x.t()).sum().backward()
    assert largest.numel == 400


@pytest.mark.parametrize('kwargs', [
    {},
    {'normalize': True},
    {'likelihood': 'multinomial', 'sampler': 'direct'},
    {'likelihood': 'multinomial', 'sampler': 'softmax'},
    {'likelihood': 'multinomial', 'corruption': 'mask'},
], ids=str)
def test_no_users_times_items_matrix(data, kwargs):
    model = DiffMM(NUM_USERS, NUM_ITEMS, {m: 3 for m in MODALITIES[:2]},
                   GraphDiffusion(NUM_ITEMS, MODALITIES[:2],
                                  hidden_channels=4, **kwargs),
                   hidden_channels=4, k=2, candidates='unseen',
                   ssl_weight=0.01 if kwargs == {} else 0.)
    data = data.clone()
    exclude = SparseRows.from_edge_index(data[INTERACTS].edge_index,
                                         NUM_USERS, NUM_ITEMS)
    with LargestTensor() as largest:
        for i, phase in enumerate(model.phases(data)):
            phase.begin((0, 0, i))
            # The first batch stands for all.
            index = torch.arange(min(BATCH_SIZE, phase.num_examples))
            loss = phase.loss(index, BATCH_SIZE, (0, 0, i, 0))
            loss['loss'].backward()
        model.eval()
        for weight in [0., 1.] if kwargs == {} else []:
            model.denoiser_weight = model.drift_weight = weight
            with torch.no_grad():
                evaluate(*model.embed(data), data[INTERACTS].edge_label_index,
                         exclude)
            model.recommend(k=5, data=data)
    assert largest.numel < NUM_USERS * NUM_ITEMS, largest.name


@pytest.mark.parametrize('likelihood', ['gaussian', 'multinomial'])
def test_sampled_loss_has_no_rows_times_items_matrix(likelihood):
    num_rows, num_items, largest = 500, 4000, []
    row = torch.arange(num_rows).repeat(3)
    rows = SparseRows.from_edge_index(
        torch.stack([row, torch.randint(num_items, row.size())]), num_rows,
        num_items)
    features = {m: torch.randn(num_items, 3) for m in MODALITIES[:2]}
    for num_sampled in [20, None]:
        diffusion = random_diffusion(num_items, 2, 0, likelihood=likelihood,
                                     num_sampled_items=num_sampled)
        with LargestTensor() as watch:
            diffusion.loss(rows, features, torch.randn(num_items, 3),
                           seed=(1, ))['loss'].backward()
        largest.append(watch.numel)
    assert largest[1] >= num_rows * num_items
    # That of the weights, which has 2 modalities and 5 hidden channels.
    assert largest[0] == num_items * 2 * 5


def test_blocks_of_edge_scores():
    # A normalizer over all items, of which a row has more than it has edges.
    rows = SparseRows.from_edge_index(torch.arange(2048).repeat(2, 1), 2048,
                                      8000)
    diffusion = random_diffusion(8000, 2, 0, likelihood='multinomial')
    with LargestTensor() as largest:
        diffusion.score_edges(rows, rows.edge_index)
    assert largest.numel <= 2**23, largest.name
