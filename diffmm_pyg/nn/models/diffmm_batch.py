from typing import TYPE_CHECKING, Dict, Optional, Tuple

from torch import Tensor

from diffmm_pyg.data import check_hetero, modality_features, modality_masks
from diffmm_pyg.errors import ConfigError, DataError
from diffmm_pyg.nn.models.diffmm_forward import diffmm_forward
from diffmm_pyg.nn.models.diffmm_loss import diffmm_loss
from diffmm_pyg.nn.models.diffmm_output import DiffMMOutput
from diffmm_pyg.nn.stacked_adj import StackedAdj
from diffmm_pyg.typing import INTERACTS, ITEM, USER, denoised_edge_type
from torch_geometric.data import HeteroData

if TYPE_CHECKING:
    from diffmm_pyg.nn.models.diffmm import DiffMM


def batch_forward(model: 'DiffMM', batch: HeteroData,
                  with_views: bool = True) -> DiffMMOutput:
    r"""Computes the embeddings of the seeds of a subgraph that a loader drew
    from a :meth:`~diffmm_pyg.transforms.sampling_graph`, over
    :obj:`num_layers + 2` hops.

    Raises:
        DataError: If it is not such a subgraph.
    """
    check_hetero(batch)
    if not ('n_id' in batch[USER] and 'degree_interacts' in batch[USER]):
        raise DataError("The batch is no subgraph of a sampling graph; make "
                        "the loader for 'sampling_graph(data)'")
    mask_dict = modality_masks(batch)
    adjs = {m: StackedAdj.from_batch(batch, denoised_edge_type(m))
            for m in model.modalities}
    out = diffmm_forward(model, modality_features(batch),
                         StackedAdj.from_batch(batch, INTERACTS), adjs,
                         mask_dict, with_views, batch.n_id_dict)
    num_users, num_items = num_seeds(batch)
    return DiffMMOutput(out.user[:num_users], out.item[:num_items], {
        m: (user[:num_users], item[:num_items])
        for m, (user, item) in out.views.items()
    })


def batch_loss(model: 'DiffMM', batch: HeteroData,
               batch_size: Optional[int] = None) -> Dict[str, Tensor]:
    r"""The loss of :class:`~diffmm_pyg.nn.DiffMM` on the triplets of a
    subgraph, and its parts. The seeds are all there is to contrast with.
    """
    if 'src_index' not in batch[USER]:
        raise DataError("The batch holds no triplets; make its loader with "
                        "neg_sampling='triplet'")
    user = batch[USER].src_index
    pos, neg = batch[ITEM].dst_pos_index, batch[ITEM].dst_neg_index
    if neg.size() != pos.size():
        raise ConfigError(f"There are {neg.size(-1)} negatives per positive; "
                          f"make the loader with one")
    out = batch_forward(model, batch, with_views=model.ssl_weight > 0)
    mask_dict = {m: mask[:out.item.size(0)]
                 for m, mask in modality_masks(batch).items()}
    return diffmm_loss(model, out, user, pos, neg, batch_size, mask_dict)


def num_seeds(batch: HeteroData) -> Tuple[int, int]:
    r"""Returns the numbers of users and items that a subgraph was drawn for;
    they come first among its nodes.
    """
    user, item, pairs = batch[USER], batch[ITEM], batch[INTERACTS]
    if 'src_index' in user:  # Triplets.
        return (int(user.src_index.max()) + 1,
                int(max(item.dst_pos_index.max(),
                        item.dst_neg_index.max())) + 1)
    if 'edge_label_index' in pairs:
        num_users, num_items = (pairs.edge_label_index.max(dim=1).values + 1)
        return int(num_users), int(num_items)
    return user.get('batch_size', 0), item.get('batch_size', 0)
