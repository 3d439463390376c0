from typing import TYPE_CHECKING, List

from diffmm_pyg.data import modality_features, modality_masks
from diffmm_pyg.nn.models.ease import ease_weights
from diffmm_pyg.nn.models.item_gram import interaction_gram
from diffmm_pyg.nn.models.score_fusion import (
    Embeddings,
    concat_embeddings,
    standardized,
)
from diffmm_pyg.nn.stacked_adj import StackedAdj, denoised_adjs
from diffmm_pyg.typing import INTERACTS, ITEM
from diffmm_pyg.utils import RowEmbedding, SparseRows
from torch_geometric.data import HeteroData

if TYPE_CHECKING:
    from diffmm_pyg.nn.models.diffmm import DiffMM


def diffmm_embeddings(model: 'DiffMM', data: HeteroData) -> Embeddings:
    r"""Returns what :class:`~diffmm_pyg.nn.DiffMM` ranks with: its final
    embeddings, and, where they have a weight, beside them those whose inner
    products are the scores of the denoisers and of the closed form. Each of
    these scores has, for every user, a standard deviation of its weight, that
    of the embeddings is one.
    """
    model.check(data)
    sizes = model.num_users, model.num_items
    edge_index = data[INTERACTS].edge_index
    dropout = model.edge_dropout if model.dropout_at_test else 0.
    out = model(modality_features(data),
                StackedAdj.from_edge_index(edge_index, *sizes),
                denoised_adjs(data, model.modalities, *sizes, dropout),
                modality_masks(data), with_views=False)
    others: List[Embeddings] = []
    rows = SparseRows.from_edge_index(edge_index, *sizes)
    if model.denoiser_weight > 0:
        weight = model.denoiser_weight / len(model.modalities)
        for user, item in model.diffusion.score_embeddings(rows).values():
            others.append((standardized(user, item, weight), item))
    if model.closed_form_weight > 0:
        pair = closed_form(data, rows, model.closed_form_reg)
        others.append((standardized(*pair, model.closed_form_weight),
                       pair[1]))
    if len(others) == 0:
        return out.user, out.item
    return concat_embeddings([(standardized(out.user, out.item), out.item),
                              *others])


def closed_form(data: HeteroData, rows: SparseRows, reg: float) -> Embeddings:
    r"""Returns the embeddings whose inner products are the scores of
    :class:`~diffmm_pyg.nn.models.ease.EASE`. They only depend on the training
    edges, and :obj:`data` keeps them.
    """
    store = data[ITEM]
    if 'closed_form' not in store:
        weight = ease_weights(interaction_gram(rows), reg)
        store.closed_form = weight.t().float().contiguous()
    return RowEmbedding.from_rows(rows), store.closed_form
