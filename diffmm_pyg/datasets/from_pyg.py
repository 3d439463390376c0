import copy
from typing import Any, Mapping, Optional

import torch
from torch import Tensor

from diffmm_pyg.data import check_hetero
from diffmm_pyg.datasets.from_arrays import Splits, hetero_data_from_arrays
from diffmm_pyg.datasets.item_features import array_features
from diffmm_pyg.datasets.split import split_edges
from diffmm_pyg.errors import DataError
from diffmm_pyg.typing import USER
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType


def hetero_data_from_pyg(
    data: HeteroData,
    features: Optional[Mapping[str, Any]] = None,
    edge_type: Optional[EdgeType] = None,
    val_ratio: float = 0.1,
    test_ratio: float = 0.1,
    seed: int = 0,
) -> Splits:
    r"""Builds the training, validation and test split from a bipartite graph
    in the layout of PyG's own datasets, such as
    :class:`~torch_geometric.datasets.MovieLens` and
    :class:`~torch_geometric.datasets.AmazonBook`.

    The :obj:`edge_index` from users to items is split by :obj:`time` if the
    edges have one, and at random if not (:meth:`split_edges`). If they have an
    :obj:`edge_label_index`, this is the test split, without what
    :obj:`edge_label` says is negative, and only the validation split is taken
    from :obj:`edge_index`.

    Args:
        data (HeteroData): The graph.
        features (Dict[str, torch.Tensor], optional): The features of further
            modalities :math:`(|\mathcal{I}|, F_m)`. The attribute :obj:`x` of
            items, if there is one, is the modality :obj:`"content"`. A row
            that is NaN throughout says that its item lacks the modality.
            (default: :obj:`None`)
        edge_type (Tuple[str, str, str], optional): The edges from users to
            items. If set to :obj:`None`, the only ones that leave
            :obj:`"user"`. (default: :obj:`None`)
        val_ratio (float, optional): The share of edges for validation.
            (default: :obj:`0.1`)
        test_ratio (float, optional): The share of edges for testing, if there
            is no test split. (default: :obj:`0.1`)
        seed (int, optional): The seed of a random split.
            (default: :obj:`0`)

    Raises:
        DataError: If there are no such edges, or no features, or if all of
            :obj:`edge_label_index` is trained on.
    """
    check_hetero(data)
    if edge_type is None:
        edge_type = find_edge_type(data)
    elif edge_type not in data.edge_types:
        raise DataError(f"There are no edges {edge_type}; choose among "
                        f"{data.edge_types}")
    data = copy.copy(data).cpu()
    store = data[edge_type]
    users, items = data[edge_type[0]], data[edge_type[2]]
    for name, nodes in zip(edge_type[::2], [users, items]):
        if nodes.num_nodes is None:
            raise DataError(f"data['{name}'].num_nodes is missing; set it to "
                            f"the number of these nodes")
    features = {**({'content': items.x} if 'x' in items else {}),
                **(features or {})}
    if len(features) == 0:
        raise DataError(f"data['{edge_type[2]}'] has no features 'x'; give "
                        f"those of one or more modalities by features={{...}}")
    time = store.time if 'time' in store else None
    if 'edge_label_index' in store:
        test = store.edge_label_index
        if 'edge_label' in store and store.edge_label.size(0) == test.size(1):
            test = test[:, store.edge_label > 0]
        if is_within(test, store.edge_index, items.num_nodes):
            raise DataError(f"data{list(edge_type)}.edge_label_index lies "
                            f"within edge_index, as in the training part of "
                            f"'RandomLinkSplit', so nothing is left to test; "
                            f"give the graph before it is split")
        train, val, _ = split_edges(store.edge_index, val_ratio, 0., seed,
                                    time)
    else:
        train, val, test = split_edges(store.edge_index, val_ratio, test_ratio,
                                       seed, time)
    rows = {m: array_features(x, m) for m, x in features.items()}
    return hetero_data_from_arrays(
        users.num_nodes, items.num_nodes, train, val, test,
        features={m: x for m, (x, _) in rows.items()},
        masks={m: mask for m, (_, mask) in rows.items() if mask is not None})


def is_within(edges: Tensor, others: Tensor, num_items: int) -> bool:
    r"""Returns whether there are edges, and all of them among others."""
    keys = [e[0] * num_items + e[1] for e in [edges, others]]
    return edges.size(1) > 0 and bool(torch.isin(*keys).all())


def find_edge_type(data: HeteroData) -> EdgeType:
    r"""Returns the type of the edges that leave users.

    Raises:
        DataError: If there is none, or several.
    """
    found = [name for name in data.edge_types if name[0] == USER]
    if len(found) != 1:
        raise DataError(f"{len(found)} of the edge types {data.edge_types} "
                        f"lead from '{USER}' to items; name the one that does "
                        f"by edge_type=...")
    return found[0]
