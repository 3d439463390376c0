r"""Random interactions with features, of which some are missing."""
import torch
from oracle import generator, random_rows

from diffmm_pyg.typing import INTERACTS
from torch_geometric.data import HeteroData


def make_data(seed, num_users, num_items):
    r"""Returns a graph and its interactions densely."""
    out, (rows, dense) = HeteroData(), random_rows(num_users, num_items, seed)
    out['user'].num_nodes, out['item'].num_nodes = num_users, num_items
    g = generator(seed)
    out['item'].x_image = torch.randn(num_items, 3, generator=g)
    out['item'].x_text = 10 * torch.randn(num_items, 2, generator=g)
    out['item'].has_text = torch.arange(num_items) > 1
    out[INTERACTS].edge_index = rows.edge_index
    return out, dense


def naive_content(data):
    r"""The normalized features of all modalities side by side."""
    image, text = data['item'].x_image, data['item'].x_text
    out = torch.zeros(len(image), 5)
    for i in range(len(out)):
        out[i, :3] = image[i] / image[i].norm()
        if data['item'].has_text[i]:
            out[i, 3:] = text[i] / text[i].norm()
    return out
