from typing import Dict, Tuple

from torch import Tensor

from diffmm_pyg.typing import ITEM, USER
from diffmm_pyg.utils import RowEmbedding, SparseRows, UserEmbedding


def embedding_tensors(user_emb: UserEmbedding,
                      item_emb: Tensor) -> Dict[str, Tensor]:
    r"""Returns what embeddings consist of, by the names that files have for
    it.
    """
    if isinstance(user_emb, RowEmbedding):
        tensors = {f'{USER}.{k}': v for k, v in user_emb.tensors.items()}
    else:
        tensors = {USER: user_emb}
    return {ITEM: item_emb, **tensors}


def embeddings_from_tensors(tensors: Dict[str, Tensor],
                            observed: Tensor) -> Tuple[UserEmbedding, Tensor]:
    r"""Returns the embeddings that :meth:`embedding_tensors` took apart.

    Args:
        tensors (Dict[str, torch.Tensor]): The tensors.
        observed (torch.Tensor): The training edges :obj:`[2, E]`, which the
            rows of a :class:`~diffmm_pyg.utils.RowEmbedding` hold.
    """
    item_emb = tensors[ITEM]
    if USER in tensors:
        return tensors[USER], item_emb
    dense = tensors[f'{USER}.dense']
    rows = SparseRows.from_edge_index(observed, dense.size(0),
                                      item_emb.size(0))
    return RowEmbedding(rows, tensors[f'{USER}.scale'], dense), item_emb
