import abc
import copy
from typing import (
    Any,
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import torch
from torch import Tensor
from torch.nn import Parameter

from diffmm_pyg.data import observed_rows
from diffmm_pyg.datasets.ids import node_ids
from diffmm_pyg.errors import ConfigError
from diffmm_pyg.recommendation import Id, Recommendations, recommend
from diffmm_pyg.typing import ITEM, USER
from diffmm_pyg.utils.checks import check_k
from diffmm_pyg.utils.row_embedding import UserEmbedding
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
            scalars, of which :obj:`loss` is minimized. Several processes all
            call it for the whole batch and take the mean of what they get.
        begin (Callable, optional): Called with a key before the first batch
            of an epoch, and again where a training goes on within the phase:
            it may depend on nothing that the phase changes.
            (default: :obj:`None`)
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
    the :class:`~torch_geometric.data.HeteroData` object, as tensors.
    """
    # The graph of the training, with what it generated:
    data: Optional[HeteroData] = None

    @classmethod
    def from_sizes(cls, num_users: int, num_items: int,
                   in_channels: Dict[str, int],
                   **kwargs: Any) -> 'Recommender':
        r"""Builds a model from the sizes of a graph, *i.e.* the numbers of
        users and items and the size of the features of every modality, and
        its hyper-parameters.
        """
        return cls(num_users, num_items, **kwargs)

    @abc.abstractmethod
    def phases(self, data: HeteroData) -> List[Phase]:
        r"""Returns the phases of an epoch on :obj:`data`, in order; none
        where :meth:`embed` computes all there is. They may change
        :obj:`data`.
        """

    @abc.abstractmethod
    def embed(self, data: HeteroData) -> Tuple[UserEmbedding, Tensor]:
        r"""Returns the embeddings of users :math:`(|\mathcal{U}|, F)` and
        items :math:`(|\mathcal{I}|, F)` to rank with.
        """

    def graph(self, data: Optional[HeteroData] = None) -> HeteroData:
        r"""Returns :obj:`data` or, if not given, the graph of the training.

        Raises:
            ConfigError: If there is none.
        """
        data = self.data if data is None else data
        if data is None:
            raise ConfigError("The model was not trained by 'fit'; give the "
                              "graph to recommend on as 'data'")
        return data

    @torch.no_grad()
    def recommend(
        self,
        users: Optional[Union[Id, Sequence[Id], Tensor]] = None,
        k: int = 20,
        data: Optional[HeteroData] = None,
    ) -> Recommendations:
        r"""Recommends the :obj:`k` best items to users, by their original
        ids, without those of the training edges.

        Args:
            users (int, str or Sequence, optional): The ids of the
                users; all of them if not given. (default: :obj:`None`)
            k (int, optional): The number of items per user.
                (default: :obj:`20`)
            data (HeteroData, optional): The graph; that of the training if
                not given. (default: :obj:`None`)

        Raises:
            ConfigError: If an id is unknown, :obj:`k` is out of range, or
                there is no graph.
        """
        data = self.graph(data)
        check_k(k, data[ITEM].num_nodes)
        training = self.training
        user_emb, item_emb = self.eval().embed(data)
        self.train(training)
        ids = {kind: node_ids(data, kind) for kind in [USER, ITEM]}
        return recommend(user_emb, item_emb, observed_rows(data), ids, users,
                         k)

    def _apply(self, fn: Callable[[Tensor], Tensor],
               recurse: bool = True) -> 'Recommender':
        super()._apply(fn, recurse)
        device = fn(torch.empty(0, dtype=torch.long)).device
        if self.data is not None and device.type != 'meta':
            self.data = copy.copy(self.data).to(device)  # As parameters do.
        return self
