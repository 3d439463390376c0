from typing import Dict

import torch
from torch import Tensor

from diffmm_pyg.nn.models import Recommender
from torch_geometric.data import HeteroData


class Best:
    r"""Keeps what the best epoch so far consists of: parameters, the graph
    with its generated edges, and embeddings.

    Args:
        metric (str): The metric that decides; an epoch without it is better
            than those before.
    """
    user_emb: Tensor
    item_emb: Tensor
    _data: HeteroData

    def __init__(self, metric: str):
        self.metric = metric
        self.epoch = -1
        self.value = float('-inf')
        self._state: Dict[str, Tensor] = {}

    def update(self, epoch: int, row: Dict[str, float], model: Recommender,
               data: HeteroData, user_emb: Tensor, item_emb: Tensor) -> None:
        r"""Keeps the epoch if it is the best so far."""
        if self.metric in row and row[self.metric] <= self.value:
            return
        self.epoch, self.value = epoch, row.get(self.metric, self.value)
        self.user_emb, self.item_emb = user_emb, item_emb
        # Copied into place: the denoisers are the larger part of the memory.
        with torch.no_grad():
            for name, value in model.state_dict().items():
                if name in self._state:
                    self._state[name].copy_(value)
                else:
                    self._state[name] = value.clone()
        self._data = data.__copy__()

    def restore(self, model: Recommender, data: HeteroData) -> None:
        r"""Sets the model and the graph back to the best epoch."""
        model.load_state_dict(self._state)
        for store, kept in zip(data.stores, self._data.stores, strict=True):
            store.update(kept)
