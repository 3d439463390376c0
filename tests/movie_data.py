r"""A graph that has nothing of this package: other names of nodes, relations
and features, two kinds of items, and relations that are nobody's business.
"""
import torch
from oracle import generator

from torch_geometric.data import HeteroData

RATES = ('user', 'rates', 'movie')
BUYS = ('user', 'buys', 'book')
FEATURES = {'image': 'poster', 'text': 'plot'}


def movie_data(num_users=12, num_movies=8, seed=0):
    g = generator(seed)
    data = HeteroData()
    data['tag'].x = torch.randn(3, 2, generator=g)
    data['movie'].num_nodes = num_movies
    data['movie'].poster = torch.randn(num_movies, 5, generator=g)
    data['movie'].plot = torch.randn(num_movies, 3, generator=g)
    data['book'].x = torch.randn(6, 4, generator=g)
    data['user'].num_nodes = num_users
    for edge_type, num_dst in [(RATES, num_movies), (BUYS, 6)]:
        mask = torch.rand(num_users, num_dst, generator=g) < 0.4
        data[edge_type].edge_index = mask.nonzero().t().contiguous()
    data['movie', 'has', 'tag'].edge_index = torch.tensor([[0, 1], [2, 0]])
    data['user', 'follows', 'user'].edge_index = torch.tensor([[0], [1]])
    return data
