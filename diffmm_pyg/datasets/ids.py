r"""The original ids of users and items, kept in the graph as tensors: PyG's
loaders, transforms and :meth:`subgraph` select from and move tensors, but
fail on lists of strings (and on NumPy arrays of strings).
"""
import re
from typing import Any, Iterable, List, Sequence, Union

import numpy as np
import torch
from torch import Tensor

from diffmm_pyg.errors import DataError
from torch_geometric.data import HeteroData

# Integers as Python writes them: '007' is a text, and stays one.
INTEGER = re.compile(r'0|-?[1-9][0-9]{0,17}')


def encode_ids(ids: Any, num_nodes: int, node_type: str) -> Tensor:
    r"""Returns ids as a tensor, for :obj:`data[node_type].ids`.

    Shapes:
        - **ids:** :math:`(N)`, integers or strings
        - **output:** :math:`(N)` for integers, :math:`(N, L)` for strings:
          the bytes of their UTF-8 encoding, followed by zeros.

    Raises:
        DataError: If there are not :obj:`num_nodes` ids of one of these
            kinds, or two are the same.
    """
    array = np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids)
    if array.dtype == object and all(type(v) is str for v in array.flat):
        array = array.astype(np.str_)
    if array.shape != (num_nodes, ) or array.dtype.kind not in 'iuU':
        raise DataError(f"'{node_type}_ids' has shape {list(array.shape)} and "
                        f"type '{array.dtype}'; it must hold {num_nodes} "
                        f"integers or strings")
    is_text = array.dtype.kind == 'U'
    if is_text:
        array = np.char.encode(array, 'utf-8')
    order = array.argsort()
    same = array[order[1:]] == array[order[:-1]]
    if same.any():
        raise DataError(f"'{node_type}_ids' holds "
                        f"'{ids[order[1:][same][0]]}' more than once; ids "
                        f"must differ")
    if is_text:
        return torch.from_numpy(array.view(np.uint8).reshape(num_nodes, -1))
    return torch.from_numpy(array.astype(np.int64))


def node_ids(data: HeteroData, node_type: str) -> List[Union[int, str]]:
    r"""Returns the original ids of all nodes of a type, in their order; the
    numbers :math:`0, 1, \ldots` if the data has none.

    Args:
        data (HeteroData): The graph.
        node_type (str): The type of the nodes.
    """
    if 'ids' not in data[node_type]:
        return list(range(data[node_type].num_nodes))
    ids = data[node_type].ids.cpu().contiguous()
    if ids.dim() == 1:
        return ids.tolist()
    array = ids.numpy().view(f'S{ids.size(1)}').reshape(-1)
    return np.char.decode(array, 'utf-8').tolist()


def sorted_ids(ids: Iterable[str]) -> List[str]:
    r"""Returns ids, sorted as integers if they all are some."""
    ids = list(ids)
    return sorted(ids, key=int if are_integers(ids) else None)


def to_numbers(ids: Sequence[str]) -> np.ndarray:
    r"""Returns ids as integers if they all are some, otherwise as text."""
    return np.array(ids, dtype=np.int64 if are_integers(ids) else np.str_)


def are_integers(ids: Iterable[str]) -> bool:
    return all(INTEGER.fullmatch(value) for value in ids)
