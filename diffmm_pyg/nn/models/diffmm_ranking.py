from typing import TYPE_CHECKING, List, NamedTuple

from torch import Tensor

from diffmm_pyg.data import (
    modality_features,
    modality_masks,
    observed_rows,
)
from diffmm_pyg.nn.models.random_walk import walk_weights
from diffmm_pyg.nn.models.score_fusion import (
    Embeddings,
    concat_embeddings,
    scaled,
    standardized,
)
from diffmm_pyg.nn.stacked_adj import StackedAdj, denoised_adjs
from diffmm_pyg.typing import INTERACTS
from diffmm_pyg.utils import RowEmbedding, SparseRows, UserEmbedding
from torch_geometric.data import HeteroData

if TYPE_CHECKING:
    from diffmm_pyg.nn.models.diffmm import DiffMM

class WalkScores(NamedTuple):
    r"""What the scores of random walks were computed from, and their
    embeddings, with a standard deviation of one per user.
    """
    edge_index: Tensor
    version: int
    num_hops: int
    user: UserEmbedding
    item: Tensor


def diffmm_embeddings(model: 'DiffMM', data: HeteroData) -> Embeddings:
    r"""Returns what :class:`~diffmm_pyg.nn.DiffMM` ranks with: its final
    embeddings, and, where they have a weight, beside them those whose inner
    products are the scores of the denoisers and of random walks. Each of
    these scores has, for every user, a standard deviation of its weight, that
    of the embeddings is one.
    """
    model.check(data)
    sizes = model.num_users, model.num_items
    rows = observed_rows(data)
    dropout = model.edge_dropout if model.dropout_at_test else 0.
    out = model(modality_features(data),
                StackedAdj.from_edge_index(rows.edge_index, *sizes),
                denoised_adjs(data, model.modalities, *sizes, dropout),
                modality_masks(data), with_views=False)
    if model.denoiser_weight == model.walk_weight == 0:
        return out.user, out.item
    others: List[Embeddings] = []
    if model.denoiser_weight > 0:
        weight = model.denoiser_weight / len(model.modalities)
        for user, item in model.diffusion.score_embeddings(rows).values():
            others.append((standardized(user, item, weight), item))
    if model.walk_weight > 0:
        others.append(walk_embeddings(model, data[INTERACTS].edge_index, rows))
    return concat_embeddings([(standardized(out.user, out.item), out.item),
                              *others])


def walk_embeddings(model: 'DiffMM', edge_index: Tensor,
                    rows: SparseRows) -> Embeddings:
    r"""Returns the embeddings whose inner products are the scores of
    :class:`~diffmm_pyg.nn.models.RandomWalk`. They only depend on the
    training edges, and the model keeps those of the last ones.
    """
    version = 0 if edge_index.is_inference() else edge_index._version
    kept = model.kept_walk
    if (kept is None or kept.edge_index is not edge_index
            or kept.item.device != edge_index.device
            or (kept.version, kept.num_hops) != (version, model.walk_hops)):
        item = walk_weights(rows, model.walk_hops)
        user = standardized(RowEmbedding.from_rows(rows), item)
        kept = WalkScores(edge_index, version, model.walk_hops, user, item)
        model.kept_walk = kept
    weight = kept.item.new_tensor([model.walk_weight])
    return scaled(kept.user, weight), kept.item
