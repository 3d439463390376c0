import json
from typing import Dict, Iterator, List, Tuple

from torch import Tensor

from torch_geometric.data import HeteroData
from torch_geometric.data.storage import BaseStorage


class Generated:
    r"""What a training writes into its graph, *e.g.*, generated edges.

    Args:
        data (HeteroData): The graph, before the training.
    """
    def __init__(self, data: HeteroData):
        self.data = data
        self._given = {id(x) for _, _, x in self._all_tensors()}
        self._kept = data.__copy__()  # Ids only last as long as the tensors.

    def tensors(self) -> Dict[str, Tensor]:
        r"""Returns the tensors that were not in the graph before, by names
        that tell where they are.
        """
        return {json.dumps([*_path(store), name]): x
                for store, name, x in self._all_tensors()
                if id(x) not in self._given}

    def restore(self, tensors: Dict[str, Tensor]) -> None:
        r"""Writes such tensors back."""
        for key, x in tensors.items():
            *path, name = json.loads(key)
            store = self.data
            if len(path) > 0:
                store = self.data[path[0] if len(path) == 1 else tuple(path)]
            store[name] = x

    def _all_tensors(self) -> Iterator[Tuple[BaseStorage, str, Tensor]]:
        for store in self.data.stores:
            for name, x in store.items():
                if isinstance(x, Tensor):
                    yield store, name, x


def _path(store: BaseStorage) -> List[str]:
    if store._key is None:  # That of the whole graph.
        return []
    return list(store._key) if isinstance(store._key, tuple) else [store._key]
