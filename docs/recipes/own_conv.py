r"""A convolution of one's own inside DiffMM, on generated data:

    python docs/recipes/own_conv.py
"""
import torch
from torch import Tensor

import diffmm_pyg
from diffmm_pyg.datasets import FakeMultiModalRec
from torch_geometric import seed_everything
from torch_geometric.nn import MessagePassing
from torch_geometric.typing import Adj, OptTensor


class GatedConv(MessagePassing):
    def __init__(self, channels: int):
        super().__init__(aggr='sum')
        self.lin = torch.nn.Linear(channels, channels)

    def forward(self, x: Tensor, edge_index: Adj,
                edge_weight: OptTensor = None) -> Tensor:
        gate = self.lin(x).sigmoid()
        return self.propagate(edge_index, x=x, gate=gate,
                              edge_weight=edge_weight)

    def message(self, x_j: Tensor, gate_i: Tensor,
                edge_weight: Tensor) -> Tensor:
        return edge_weight.view(-1, 1) * gate_i * x_j


def main() -> None:
    seed_everything(0)
    data = FakeMultiModalRec(num_users=200, num_items=100)
    model = diffmm_pyg.build_model(
        data[0],
        # A name ('SAGEConv'), a class, or a function of the channels:
        model={'conv': GatedConv, 'denoised_conv': GatedConv},
        diffusion={'hidden_channels': 50})
    run = diffmm_pyg.fit(model, data, epochs=5, progress=False)
    print(run.metrics['test'])

    item = model.recommend(users=7, k=1).item[0][0]
    why = model.explain(user=7, item=item)
    print(f'Item {item} for user 7: {why.score:.3f}, of which')
    for edge in why.top_edges(k=3):
        print(f'{edge.value:.3f} by user {edge.user} {edge.relation} item '
              f'{edge.item}')
    print(why.modalities())

    # A run holds parameters, never code; give it the class again:
    again = run.model(conv=GatedConv, denoised_conv=GatedConv)
    print(again.recommend(users=7, k=1, data=model.data).item[0][0])


if __name__ == '__main__':
    main()
