r"""Recall@20 of PyG's LightGCN on a graph, with denoised edges, and with the
same edges shuffled: python docs/recipes/denoised_edges.py [DATASET OR FOLDER]
"""
import sys

import torch

import torch_geometric.transforms as T
from diffmm_pyg.cli.data import load_data
from diffmm_pyg.diffusion import GraphDiffusion, fit_diffusion
from diffmm_pyg.evaluation import evaluate
from diffmm_pyg.transforms import AddDenoisedEdges
from diffmm_pyg.typing import INTERACTS
from diffmm_pyg.utils import SparseRows
from torch_geometric.nn import LightGCN

FEATURES = {'image': 'x_image', 'audio': 'x_audio'}


def recall_of_light_gcn(graph, splits, epochs):
    sizes = graph['user'].num_nodes, graph['item'].num_nodes
    user, item = graph[INTERACTS].edge_index
    seen = SparseRows.from_edge_index(graph[INTERACTS].edge_index, *sizes)
    graph = T.ToUndirected()(graph).to_homogeneous(edge_attrs=['edge_weight'])
    graph = T.GCNNorm(add_self_loops=False)(graph)
    adj_t = T.ToSparseTensor(layout=torch.sparse_csr)(graph).adj_t
    model = LightGCN(sum(sizes), 64, num_layers=2, normalize=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(epochs):
        items = torch.cat([item, torch.randint(sizes[1], item.size())])
        rank = model(adj_t, torch.stack([user.repeat(2), sizes[0] + items]))
        model.recommendation_loss(*rank.chunk(2)).backward()
        optimizer.step()
        optimizer.zero_grad()
    emb = model.get_embedding(adj_t).detach().split(sizes)
    return [evaluate(*emb, split[INTERACTS].edge_label_index, seen)
            ['recall@20'] for split in splits]


def compare(train, *splits, seed=0, epochs=400, diffusion_epochs=60):
    torch.manual_seed(seed)
    train[INTERACTS].edge_weight = torch.ones(train.num_edges)
    diffusion = GraphDiffusion(train['item'].num_nodes, list(FEATURES), 200,
                               likelihood='multinomial', normalize=True)
    fit_diffusion(diffusion, train, INTERACTS, FEATURES, diffusion_epochs,
                  batch_size=-(-train['user'].num_nodes // 10), seed=seed)
    add_edges = AddDenoisedEdges(diffusion, INTERACTS, k=5, weight_scale=10.)
    denoised, shuffled = add_edges(train), add_edges(train)
    for m in FEATURES:
        item = shuffled['user', f'denoised_{m}', 'item'].edge_index[1]
        item.copy_(item[torch.randperm(len(item))])
    graphs = {'plain': train, 'denoised': denoised, 'shuffled': shuffled}
    return {name: recall_of_light_gcn(graph, splits, epochs)
            for name, graph in graphs.items()}


if __name__ == '__main__':
    data = load_data(*(sys.argv[1:] or ['fake']), modalities=[*FEATURES])
    for seed in range(3):
        print(compare(*data, seed=seed))
