import abc
from typing import Callable, Dict, List

from torch import Tensor

from diffmm_pyg.data import check_sizes, observed_rows
from diffmm_pyg.nn.models.recommender import Key, Phase, Recommender
from diffmm_pyg.utils.checks import check_range
from diffmm_pyg.utils.sparse_rows import SparseRows
from torch_geometric.data import HeteroData


class RowRecommender(Recommender, abc.ABC):
    r"""A recommender that knows of a user nothing but the row of the training
    interactions. Without parameters it has no phases.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
    """
    def __init__(self, num_users: int, num_items: int):
        super().__init__()
        check_range('num_users', num_users, 1)
        check_range('num_items', num_items, 1)
        self.num_users = num_users
        self.num_items = num_items

    def rows(self, data: HeteroData) -> SparseRows:
        r"""Returns the rows :math:`(|\mathcal{U}|, |\mathcal{I}|)` of
        training.

        Raises:
            ConfigError: If :obj:`data` has other sizes than this model.
        """
        check_sizes(data, self.num_users, self.num_items)
        return observed_rows(data)

    def phases(self, data: HeteroData) -> List[Phase]:
        return []

    def row_phase(
        self,
        data: HeteroData,
        loss: Callable[[SparseRows, Key], Dict[str, Tensor]],
    ) -> Phase:
        r"""Returns a phase over all users that moves all parameters, from a
        loss of clean rows and the key of the random draws.
        """
        rows = self.rows(data)

        def batch_loss(index: Tensor, batch_size: int,
                       key: Key) -> Dict[str, Tensor]:
            return loss(rows.select(index), key)

        return Phase('denoising', list(self.parameters()), self.num_users,
                     batch_loss)

    def __repr__(self) -> str:
        return (f'{self.__class__.__name__}({self.num_users}, '
                f'{self.num_items})')
