from typing import Dict, NamedTuple, Tuple

from torch import Tensor


class DiffMMOutput(NamedTuple):
    r"""What a forward pass of :class:`~diffmm_pyg.nn.DiffMM` returns.

    Args:
        user (torch.Tensor): The final embeddings :math:`(|\mathcal{U}|, F)`.
        item (torch.Tensor): The final embeddings :math:`(|\mathcal{I}|, F)`.
        views (Dict[str, Tuple[torch.Tensor, torch.Tensor]]): For every
            modality, the contrastive view of users and items.
    """
    user: Tensor
    item: Tensor
    views: Dict[str, Tuple[Tensor, Tensor]]
