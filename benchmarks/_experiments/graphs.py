r"""What the graphs that DiffMM generates are made of."""
from itertools import combinations
from typing import Any, Dict

import torch
from torch import Tensor

from diffmm_pyg.runs import Run

PREFIX, SUFFIX = 'denoised_', '.edge_index'


def describe_graphs(run: Run) -> Dict[str, Dict[str, Any]]:
    r"""Returns, for every modality whose graph has edges: the number of
    :obj:`edges` and of distinct :obj:`items`, the :obj:`known` share of edges
    that are training edges, the recall of the validation edges,
    :obj:`val_recall`, and the :obj:`overlap` with the graphs of other
    modalities, which is the size of the intersection over that of the union,
    averaged over them.
    """
    edges = {name[len(PREFIX):-len(SUFFIX)]: _numbers(edge_index, run)
             for name, edge_index in run.graphs.items()
             if name.startswith(PREFIX) and name.endswith(SUFFIX)
             and edge_index.numel() > 0}
    observed = _numbers(run.graphs['observed'], run)
    overlaps: Dict[str, list] = {m: [] for m in edges}
    for a, b in combinations(edges, 2):
        value = _overlap(edges[a], edges[b])
        overlaps[a].append(value)
        overlaps[b].append(value)
    out = {}
    for m, e in edges.items():
        out[m] = {
            'edges': e.numel(),
            'items': (e % run.num_items).unique().numel(),
            'known': float(torch.isin(e, observed).float().mean()),
            'overlap': (sum(overlaps[m]) / len(overlaps[m])
                        if len(overlaps[m]) > 0 else None),
        }
        if 'val' in run.graphs:
            val = _numbers(run.graphs['val'], run)
            out[m]['val_recall'] = float(torch.isin(val, e).float().mean())
    return out


def _numbers(edge_index: Tensor, run: Run) -> Tensor:
    return (edge_index[0] * run.num_items + edge_index[1]).unique()


def _overlap(a: Tensor, b: Tensor) -> float:
    common = int(torch.isin(a, b).sum())
    return common / (a.numel() + b.numel() - common)
