r"""DiffMM on a graph that is too large to propagate over at once: training on
sampled subgraphs, and inference, by loaders of PyG.

    python docs/recipes/neighbor_sampling.py

Without a loop of your own: DiffMM(..., num_neighbors=[8, 4, 4]), or
--num-neighbors 8,4,4 on the command line.
"""
import torch

import diffmm_pyg
from diffmm_pyg.datasets import FakeMultiModalRec
from diffmm_pyg.evaluation import evaluate
from diffmm_pyg.transforms import AddDenoisedEdges, sampling_graph
from diffmm_pyg.typing import INTERACTS
from diffmm_pyg.utils import SparseRows
from torch_geometric import seed_everything
from torch_geometric.loader import LinkNeighborLoader, NeighborLoader


def train_epoch(model, graph, optimizer):
    # One number per hop, of which there are two more than layers:
    loader = LinkNeighborLoader(graph, [8, 4, 4], INTERACTS, batch_size=512,
                                neg_sampling='triplet', shuffle=True)
    for batch in loader:
        optimizer.zero_grad()
        model.batch_loss(batch)['loss'].backward()
        optimizer.step()


@torch.no_grad()
def embed(model, graph, node_type):
    loader = NeighborLoader(graph, [-1, -1, -1], node_type, batch_size=128)
    outs = [model.batch_forward(batch, with_views=False) for batch in loader]
    return torch.cat([getattr(out, node_type) for out in outs])


def main():
    seed_everything(0)
    train, val, test = FakeMultiModalRec(num_users=1000, num_items=500)
    model = diffmm_pyg.build_model(train, diffusion={'hidden_channels': 100})
    features = {m: f'x_{m}' for m in model.modalities}
    model.diffusion.fit(train, INTERACTS, features, epochs=5)
    graph = sampling_graph(AddDenoisedEdges(model.diffusion, k=2)(train))

    seen = SparseRows.from_edge_index(train[INTERACTS].edge_index, 1000, 500)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(1, 4):
        train_epoch(model, graph, optimizer)
        emb = embed(model, graph, 'user'), embed(model, graph, 'item')
        metrics = evaluate(*emb, val[INTERACTS].edge_label_index, seen)
        print(f"Epoch {epoch}: recall@20 {metrics['recall@20']:.4f}")


if __name__ == '__main__':
    main()
