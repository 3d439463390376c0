from typing import Any, Dict, List, Tuple

from torch import Tensor

from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.nn.models.recommender import Key, Phase
from diffmm_pyg.nn.models.row_recommender import RowRecommender
from diffmm_pyg.utils.sparse_rows import SparseRows
from torch_geometric.data import HeteroData

MODALITY = 'interactions'


class DiffRec(RowRecommender):
    r"""The recommender from `"Diffusion Recommender Model"
    <https://arxiv.org/abs/2304.04971>`_: rows of interactions are noised, a
    network predicts the clean ones, and the reverse process from the clean
    row, *i.e.*, from :math:`x_T = x_0`, makes the scores. Timesteps are drawn
    uniformly, where the paper draws those of large losses more often:

    .. math::
        \mathcal{L} = \mathbb{E}_{t, \epsilon} \left[ \left(
        \mathrm{SNR}(t - 1) - \mathrm{SNR}(t) \right) \| x_0 -
        \hat{x}_\theta(x_t, t) \|^2 \right], \quad
        x_{t-1} = c_1(t) \, \hat{x}_\theta(x_t, t) + c_2(t) \, x_t,

    with a weight of 1 at :math:`t = 0`, where the prediction itself is the
    score, which ends in a linear layer: :math:`\hat{y}_u = \mathbf{W}_2 h_u +
    \mathbf{b}_2`.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        diffusion (GraphDiffusion): The diffusion model, of a single modality,
            of which neither features nor generated edges are used.

    Raises:
        ValueError: If it has several modalities, another number of items, or
            hides items instead of adding noise.
    """
    def __init__(self, num_users: int, num_items: int,
                 diffusion: GraphDiffusion):
        super().__init__(num_users, num_items)
        if len(diffusion.modalities) != 1:
            raise ValueError(f"'diffusion' must be of one modality (got "
                             f"{diffusion.modalities})")
        if num_items != diffusion.denoiser.num_items:
            raise ValueError(f"'num_items' is {num_items}, but 'diffusion' "
                             f"was made for {diffusion.denoiser.num_items} "
                             f"items")
        if diffusion.corruption != 'noise':
            raise ValueError("'diffusion' must have 'noise' as its "
                             "'corruption'; to find hidden items, use DiffMM")
        self.diffusion = diffusion

    @classmethod
    def from_sizes(cls, num_users: int, num_items: int,
                   in_channels: Dict[str, int],
                   **kwargs: Any) -> 'DiffRec':
        diffusion = GraphDiffusion(num_items, [MODALITY],
                                   **kwargs.pop('diffusion', {}))
        return cls(num_users, num_items, diffusion, **kwargs)

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        self.diffusion.reset_parameters()

    def loss(self, rows: SparseRows, seed: Key = (0, )) -> Dict[str, Tensor]:
        r"""Computes the :obj:`loss` of a batch of rows.

        Args:
            rows (SparseRows): The clean rows, :math:`(N, |\mathcal{I}|)`.
            seed (Tuple[int], optional): The key of the random draws.
                (default: :obj:`(0, )`)
        """
        loss = self.diffusion.loss(rows, seed=seed)['loss']
        if self.diffusion.likelihood == 'gaussian':
            # The sum over items: gradients of their mean are so small that
            # Adam's epsilon holds them back.
            loss = loss * self.num_items
        return {'loss': loss}

    def phases(self, data: HeteroData) -> List[Phase]:
        return [self.row_phase(data, self.loss)]

    def embed(self, data: HeteroData) -> Tuple[Tensor, Tensor]:
        embeddings = self.diffusion.score_embeddings(self.rows(data))
        return embeddings[self.diffusion.modalities[0]]

    def __repr__(self) -> str:
        return (f'{self.__class__.__name__}({self.num_users}, '
                f'{self.num_items}, {self.diffusion})')
