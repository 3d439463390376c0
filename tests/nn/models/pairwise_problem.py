r"""What the tests of the trained baselines share: a small graph, its dense
normalized matrix, and one batch of training with the negatives it drew.
"""
import torch
from oracle import generator, random_rows

from diffmm_pyg.typing import INTERACTS
from diffmm_pyg.utils import NegativeSampler, SparseRows, keyed_generator
from torch_geometric.data import HeteroData

NUM_USERS, NUM_ITEMS = 12, 7
CHANNELS = {'image': 3, 'text': 2}


def random_data(masked=True, seed=0):
    r"""Users and items without interactions are among them. User 1 knows
    everything but no item 6, which nobody knows, user 3 really everything.
    """
    g, data = generator(seed), HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = NUM_USERS, NUM_ITEMS
    for m, channels in CHANNELS.items():
        data['item'][f'x_{m}'] = torch.randn(NUM_ITEMS, channels, generator=g)
    if masked:
        data['item'].has_text = torch.arange(NUM_ITEMS) > 1
    _, dense = random_rows(NUM_USERS, NUM_ITEMS, seed)
    dense[3] = 1
    data[INTERACTS].edge_index = dense.nonzero().t().contiguous()
    return data


def make(cls, data, seed=0, **kwargs):
    r"""A model whose every parameter is a random number."""
    kwargs = {'hidden_channels': 4, **kwargs}
    model = cls.from_sizes(NUM_USERS, NUM_ITEMS, CHANNELS, **kwargs)
    g = generator(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.size(), generator=g))
    return model


def dense_adj(edge_index):
    r"""The matrix :math:`D^{-1/2} A D^{-1/2}`, entry by entry."""
    num_nodes = NUM_USERS + NUM_ITEMS
    adj = torch.zeros(num_nodes, num_nodes)
    for u, i in edge_index.t().tolist():
        adj[u, NUM_USERS + i] = adj[NUM_USERS + i, u] = 1
    degree = adj.sum(dim=1)
    for u, i in adj.nonzero().tolist():
        adj[u, i] = 1 / (degree[u] * degree[i]).sqrt()
    return adj


def light_gcn(model, adj):
    r"""The mean over the powers of a dense matrix."""
    x = torch.cat([model.user_embedding.weight, model.item_embedding.weight])
    powers = [torch.linalg.matrix_power(adj, layer) @ x
              for layer in range(model.num_layers + 1)]
    return torch.stack(powers).mean(dim=0).split([NUM_USERS, NUM_ITEMS])


class Step:
    r"""The first step of an epoch, and the triplets that it is about."""
    def __init__(self, model, data, key=(0, 0, 0, 0), index=None,
                 batch_size=8):
        phase, = model.phases(data)
        if phase.begin is not None:
            phase.begin(key[:3])
        index = torch.arange(0, 20, 3) if index is None else index
        self.losses = phase.loss(index, batch_size, key)
        rows = SparseRows.from_edge_index(data[INTERACTS].edge_index,
                                          NUM_USERS, NUM_ITEMS)
        self.user, self.pos = rows.edge_index[:, index]
        self.neg = NegativeSampler(rows)(self.user, keyed_generator(*key))
        full = self.user == 3
        self.neg[full] = self.pos[full]

    def bpr(self, user, item, batch_size=8):
        r"""The loss, by the definition of the logistic function."""
        total = 0.
        for u, i, j in zip(self.user, self.pos, self.neg, strict=True):
            x = user[u] @ item[i] - user[u] @ item[j]
            total = total + (1 + (-x).exp()).log()
        return total / batch_size

    def reg(self, user, item, batch_size=8):
        r"""The squared norms of what the batch is about."""
        total = 0.
        for u, i, j in zip(self.user, self.pos, self.neg, strict=True):
            for row in [user[u], item[i], item[j]]:
                total = total + sum(x**2 for x in row)
        return total / batch_size
