from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.diffusion.graph_diffusion import Candidates, Weighting
from diffmm_pyg.diffusion.relation import relation_rows
from diffmm_pyg.typing import (
    INTERACTS,
    EdgesDict,
    EdgeType,
    denoised_edge_type,
    reverse_edge_type,
)
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform


def add_denoised_edges(
    data: HeteroData,
    edges: EdgesDict,
    edge_type: EdgeType = INTERACTS,
    reverse: bool = False,
    prefix: str = 'denoised',
) -> HeteroData:
    r"""Writes generated edges into the edge stores
    :obj:`(src, '<prefix>_<modality>', dst)`, in place and in place of those
    that are there.

    Args:
        data (HeteroData): The graph.
        edges (Dict[str, Tuple[torch.Tensor, torch.Tensor]]): Edge indices
            :math:`(2, |\mathcal{E}|)` and weights :math:`(|\mathcal{E}|)`
            per modality, as
            :meth:`~diffmm_pyg.diffusion.GraphDiffusion.generate` returns
            them.
        edge_type (Tuple[str, str, str], optional): The relation
            :obj:`(src, relation, dst)` that they were generated from.
            (default: :obj:`('user', 'interacts', 'item')`)
        reverse (bool, optional): If set to :obj:`True`, the reverse edges are
            written, too, into :obj:`(dst, 'rev_<prefix>_<modality>', src)`.
            (default: :obj:`False`)
        prefix (str, optional): What their names begin with, to keep apart
            what several relations between the same nodes are denoised to.
            (default: :obj:`"denoised"`)
    """
    for modality, (edge_index, edge_weight) in edges.items():
        new_type = denoised_edge_type(modality, edge_type, prefix)
        store = data[new_type]
        store.edge_index, store.edge_weight = edge_index, edge_weight
        if reverse:
            store = data[reverse_edge_type(new_type)]
            store.edge_index = edge_index.flip([0])
            store.edge_weight = edge_weight
    return data


@functional_transform('diffmm_add_denoised_edges')
class AddDenoisedEdges(BaseTransform):
    r"""Denoises the rows of a bipartite relation by a trained diffusion model
    and adds, for every modality, the edges to the best :obj:`k` nodes of every
    row, as :obj:`(src, '<prefix>_<modality>', dst)` with :obj:`edge_index` and
    :obj:`edge_weight` (functional name: :obj:`diffmm_add_denoised_edges`).
    They replace edges of the same name.

    Only :obj:`edge_index` of the relation is read, never
    :obj:`edge_label_index`. After
    :class:`~torch_geometric.transforms.RandomLinkSplit`, those are the message
    passing edges of each split; the model, too, must then have been trained on
    the training split. :class:`~torch_geometric.transforms.ToSparseTensor`
    comes after this transform. PyG tells a :obj:`pre_transform` apart by its
    settings, not by the state of the model: with another one, such a dataset
    needs :obj:`force_reload=True`.

    Args:
        diffusion (GraphDiffusion): The diffusion model, trained, *e.g.*, by
            :meth:`~diffmm_pyg.diffusion.GraphDiffusion.fit`.
        edge_type (Tuple[str, str, str], optional): The relation
            :obj:`(src, relation, dst)`.
            (default: :obj:`('user', 'interacts', 'item')`)
        k (int, optional): The number of edges per row and modality. Rows
            without any edge of the relation, of which nothing is known, all
            get the same ones. (default: :obj:`5`)
        candidates (str, optional): The nodes that edges may lead to, see
            :meth:`~diffmm_pyg.diffusion.GraphDiffusion.generate`.
            (default: :obj:`"unseen"`)
        weighting (str, optional): Their weights, see
            :meth:`~diffmm_pyg.diffusion.GraphDiffusion.generate`.
            (default: :obj:`"score"`)
        weight_scale (float, optional): The factor of these weights.
            (default: :obj:`1.0`)
        reverse (bool, optional): If set to :obj:`True`, the reverse edges are
            added, too, as :obj:`(dst, 'rev_<prefix>_<modality>', src)`.
            (default: :obj:`False`)
        prefix (str, optional): What their names begin with, to keep apart
            what several relations between the same nodes are denoised to.
            (default: :obj:`"denoised"`)
    """
    def __init__(
        self,
        diffusion: GraphDiffusion,
        edge_type: EdgeType = INTERACTS,
        k: int = 5,
        candidates: Candidates = 'unseen',
        weighting: Weighting = 'score',
        weight_scale: float = 1.0,
        reverse: bool = False,
        prefix: str = 'denoised',
    ):
        self.diffusion = diffusion
        self.edge_type = edge_type
        self.k = k
        self.candidates = candidates
        self.weighting = weighting
        self.weight_scale = weight_scale
        self.reverse = reverse
        self.prefix = prefix

    def forward(self, data: HeteroData) -> HeteroData:
        r"""Writes the edges, and their reverses, into new stores."""
        rows = relation_rows(self.diffusion, data, self.edge_type)
        edges = self.diffusion.generate(rows, self.k, self.candidates,
                                        self.weighting, self.weight_scale)
        device = data[self.edge_type].edge_index.device
        edges = {m: (edge_index.to(device), edge_weight.to(device))
                 for m, (edge_index, edge_weight) in edges.items()}
        return add_denoised_edges(data, edges, self.edge_type, self.reverse,
                                  self.prefix)

    def __repr__(self) -> str:
        # All settings, by which PyG tells processed datasets apart:
        return (f"{self.__class__.__name__}({self.diffusion}, "
                f"{self.edge_type}, k={self.k}, "
                f"candidates='{self.candidates}', "
                f"weighting='{self.weighting}', "
                f"weight_scale={self.weight_scale}, reverse={self.reverse}, "
                f"prefix='{self.prefix}')")
