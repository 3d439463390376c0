import abc
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor
from torch.nn import Parameter

from diffmm_pyg.errors import ConfigError
from diffmm_pyg.typing import INTERACTS, ITEM, USER
from diffmm_pyg.utils.sparse_rows import SparseRows
from diffmm_pyg.utils.topk import inner_product_topk
from torch_geometric.data import HeteroData

# Random draws are keyed by (seed, epoch, phase, step):
Key = Tuple[int, ...]


class Phase(NamedTuple):
    r"""One pass of an epoch over a set of examples.

    Args:
        name (str): The name of the phase.
        parameters ([torch.nn.Parameter]): What its optimizer moves.
        num_examples (int): The number of examples of an epoch.
        loss (Callable): Maps the indices of the examples of a batch, the
            nominal batch size and a key for random draws to a dictionary of
            scalars, of which :obj:`loss` is minimized.
        begin (Callable, optional): Called with a key before the first batch
            of an epoch. (default: :obj:`None`)
    """
    name: str
    parameters: List[Parameter]
    num_examples: int
    loss: Callable[[Tensor, int, Key], Dict[str, Tensor]]
    begin: Optional[Callable[[Key], None]] = None


class Recommender(torch.nn.Module, abc.ABC):
    r"""What training and ranking know of a model: the phases of an epoch, and
    the embeddings whose inner product ranks items for users. All that changes
    from epoch to epoch beside parameters, *e.g.*, generated edges, lives in
    the :class:`~torch_geometric.data.HeteroData` object.
    """
    @abc.abstractmethod
    def phases(self, data: HeteroData) -> List[Phase]:
        r"""Returns the phases of an epoch on :obj:`data`, in order. They may
        change :obj:`data`.
        """

    @abc.abstractmethod
    def embed(self, data: HeteroData) -> Tuple[Tensor, Tensor]:
        r"""Returns the embeddings of users :math:`(|\mathcal{U}|, F)` and
        items :math:`(|\mathcal{I}|, F)` to rank with.
        """

    @torch.no_grad()
    def recommend(
        self,
        data: HeteroData,
        user: Optional[Tensor] = None,
        k: int = 20,
    ) -> Tuple[Tensor, Tensor]:
        r"""Recommends the :obj:`k` best items to users, without those of the
        training edges of :obj:`data`.

        Args:
            data (HeteroData): The graph.
            user (torch.Tensor, optional): The indices :obj:`[N]` of the users;
                all of them if not given. (default: :obj:`None`)
            k (int, optional): The number of items per user.
                (default: :obj:`20`)

        Returns:
            Scores and item indices, both of shape :obj:`[N, k]`, best first.
            Scores are :math:`-\infty` where no item is left.
        """
        num_users, num_items = data[USER].num_nodes, data[ITEM].num_nodes
        if not 0 < k <= num_items:
            raise ConfigError(f"'k' must lie in 1..{num_items}, the number of "
                              f"items (got {k})")
        training, _ = self.training, self.eval()
        user_emb, item_emb = self.embed(data)
        self.train(training)
        seen = SparseRows.from_edge_index(data[INTERACTS].edge_index,
                                          num_users, num_items)
        if user is not None:
            user_emb, seen = user_emb[user], seen.select(user)
        return inner_product_topk(user_emb, item_emb, k, exclude=seen)
