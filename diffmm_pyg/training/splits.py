import copy
import logging
from typing import Dict, List, Sequence

import torch
from torch import Tensor

from diffmm_pyg.data import check_data
from diffmm_pyg.errors import ConfigError, DataError
from diffmm_pyg.evaluation import evaluate, unranked_items
from diffmm_pyg.typing import INTERACTS, ITEM, USER
from diffmm_pyg.utils import SparseRows, UserEmbedding
from torch_geometric.data import HeteroData
from torch_geometric.utils import coalesce

logger = logging.getLogger(__name__)


class Splits:
    r"""The graph to train on, and the positives to validate and to test on.

    Args:
        data (Sequence[HeteroData]): The training, validation and, optionally,
            test graph. The training graph is copied; labels may contain
            negatives, as those of
            :class:`~torch_geometric.transforms.RandomLinkSplit` do.
        protocol (str): :obj:`"strict"` or :obj:`"paper"`, see
            :meth:`~diffmm_pyg.fit`.
        top_k (int): The number of recommendations to evaluate.
        watch_test (bool, optional): Whether to evaluate on test after every
            epoch, too. (default: :obj:`False`)

    Raises:
        DataError: If :obj:`data` does not hold what it must hold.
        ConfigError: If :obj:`top_k` exceeds the number of items.
    """
    def __init__(self, data: Sequence[HeteroData], protocol: str, top_k: int,
                 watch_test: bool = False):
        if isinstance(data, HeteroData) or len(data) == 0:
            raise DataError(f"Training takes a sequence of graphs, for "
                            f"training, validation and test "
                            f"(got '{type(data).__name__}')")
        for split in data:
            check_data(split)
        if top_k > data[0][ITEM].num_nodes:
            raise ConfigError(f"'top_k' must not exceed the number of items, "
                              f"{data[0][ITEM].num_nodes} (got {top_k}); "
                              f"lower it ('--top-k')")
        self.protocol = protocol
        self.top_k = top_k
        self.watch_test = watch_test or protocol == 'paper'
        self._unranked: Dict[str, SparseRows] = {}
        # `RandomLinkSplit` may set edges aside that are labels only.
        self.train = copy.copy(data[0])
        self.train[INTERACTS].edge_index = coalesce(torch.cat(
            [data[0][INTERACTS].edge_index, positives(data[0])], dim=1))
        labels = {name: positives(split) for name, split in
                  zip(['val', 'test'], data[1:], strict=False)}
        self.labels = {k: v for k, v in labels.items() if v.size(1) > 0}
        if self.selection not in self.watched:
            logger.warning("There is no %s split to choose the best epoch by; "
                           "the last one is kept", self.selection)

    @property
    def selection(self) -> str:
        r"""The split that the best epoch is chosen by."""
        return 'test' if self.protocol == 'paper' else 'val'

    @property
    def selection_metric(self) -> str:
        return f'{self.selection}/recall@{self.top_k}'

    @property
    def watched(self) -> List[str]:
        r"""The splits to evaluate after every epoch."""
        names = ['val', 'test'] if self.watch_test else ['val']
        return [name for name in names if name in self.labels]

    def to(self, device: torch.device) -> 'Splits':
        r"""Returns the splits on another device."""
        out = copy.copy(self)
        out._unranked = {}
        out.train = copy.copy(self.train).to(device)
        out.labels = {k: v.to(device) for k, v in self.labels.items()}
        return out

    def evaluate(self, name: str, user_emb: UserEmbedding,
                 item_emb: Tensor) -> Dict[str, float]:
        r"""Evaluates on a split."""
        if name not in self._unranked:
            self._unranked[name] = unranked_items(
                self.train[INTERACTS].edge_index, self.labels, name,
                self.protocol, user_emb.size(0), item_emb.size(0))
        return evaluate(user_emb, item_emb, self.labels[name],
                        self._unranked[name], [self.top_k])

    def cold_users(self) -> Dict[str, int]:
        r"""Returns how many users of a split have no training edge."""
        user = self.train[INTERACTS].edge_index[0]
        known = torch.zeros(self.train[USER].num_nodes, dtype=torch.bool,
                            device=user.device)
        known[user] = True
        return {name: int((~known[label[0].unique()]).sum())
                for name, label in self.labels.items()}


def positives(split: HeteroData) -> Tensor:
    r"""Returns the positives :obj:`[2, N]` among the labels of a split."""
    store = split[INTERACTS]
    if 'edge_label_index' not in store:
        return store.edge_index.new_empty(2, 0)
    edge_label_index = store.edge_label_index
    if 'edge_label' in store:
        edge_label_index = edge_label_index[:, store.edge_label > 0]
    return coalesce(edge_label_index)
