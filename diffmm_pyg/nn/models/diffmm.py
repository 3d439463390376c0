from typing import Any, Dict, List, Literal, Optional

import torch
from torch import Tensor
from torch.nn import Embedding, ModuleDict

from diffmm_pyg.data import check_modalities, check_sizes
from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.nn.encoder import ModalityEncoder
from diffmm_pyg.nn.fusion import ModalityFusion
from diffmm_pyg.nn.models.diffmm_batch import batch_forward, batch_loss
from diffmm_pyg.nn.models.diffmm_checks import check_values, check_weights
from diffmm_pyg.nn.models.diffmm_explanation import (
    DiffMMExplanation,
    explain_diffmm,
)
from diffmm_pyg.nn.models.diffmm_forward import Masks, diffmm_forward
from diffmm_pyg.nn.models.diffmm_loss import diffmm_loss
from diffmm_pyg.nn.models.diffmm_output import DiffMMOutput
from diffmm_pyg.nn.models.diffmm_phases import diffmm_phases
from diffmm_pyg.nn.models.diffmm_ranking import diffmm_embeddings
from diffmm_pyg.nn.models.recommender import Phase, Recommender
from diffmm_pyg.nn.resolver import Conv, conv_name, conv_resolver
from diffmm_pyg.nn.stacked_adj import StackedAdj
from diffmm_pyg.nn.stacked_conv import StackedConv
from diffmm_pyg.recommendation import Id
from diffmm_pyg.utils.score_fusion import Embeddings
from torch_geometric.data import HeteroData
from torch_geometric.nn.inits import reset


class DiffMM(Recommender):
    r"""The recommender from `"DiffMM: Multi-Modal Diffusion Model for
    Recommendation" <https://arxiv.org/abs/2406.11781>`_.

    ID embeddings and modality features pass over the observed graph
    :math:`\mathbf{\hat{A}}`, and embeddings over the graphs
    :math:`\mathbf{\hat{A}}^m` that the diffusion model generated. With
    :math:`\mathbf{P}` the fused, normalized features,

    .. math::
        \mathbf{S}_1 &= \mathbf{\hat{A}} [\mathbf{U}; \mathbf{P}], \quad
        \mathbf{S}_2 = \mathbf{\hat{A}} [\mathbf{S}_{1,u}; \mathbf{I}], \quad
        \mathbf{G} = \sum_m w_m \mathbf{\hat{A}}^m [\mathbf{U}; \mathbf{I}]

        \mathbf{H} &= \mathbf{S}_1 + \mathbf{S}_2 + \lambda_{\text{adj}}
        \mathbf{G}, \quad \mathbf{X} = \sum_{l=0}^{L}
        \mathbf{\hat{A}}^l \mathbf{H} + \lambda_{\text{res}}
        \frac{\mathbf{H}}{\| \mathbf{H} \|},

    and the view of a modality is :math:`\sum_l \mathbf{\hat{A}}^l
    \mathbf{\hat{A}}^m [\mathbf{U}; \mathbf{P}^m]`. As everything is linear,
    the main branch costs the same for any number of modalities. Where an item
    lacks a modality, its weights :math:`w_m`, also those in its rows of
    :math:`\mathbf{G}`, are renormalized over the modalities it has. Any
    convolution, one per graph, can take the place of the products.

    Args:
        num_users, num_items (int): The numbers of users and of items.
        in_channels (Dict[str, int]): The size of the features of every
            modality.
        diffusion (GraphDiffusion): The diffusion model that generates edges.
        hidden_channels (int, optional): The size of the embeddings.
            (default: :obj:`64`)
        num_layers (int, optional): The number of layers :math:`L`.
            (default: :obj:`1`)
        projection (str, optional): How features are projected, see
            :class:`~diffmm_pyg.nn.ModalityEncoder`.
            (default: :obj:`"linear"`)
        adj_weight (float, optional): The weight :math:`\lambda_{\text{adj}}`
            of the generated graphs. (default: :obj:`0.2`)
        residual_weight (float, optional): The weight
            :math:`\lambda_{\text{res}}`. (default: :obj:`0.5`)
        anchor (str, optional): What is contrasted: the final embeddings with
            the view of every modality (:obj:`"main"`), or the views of all
            pairs of modalities (:obj:`"modality"`).
            (default: :obj:`"main"`)
        temperature (float, optional): The temperature of the contrastive
            loss. (default: :obj:`0.5`)
        ssl_weight (float, optional): The weight of the contrastive loss.
            (default: :obj:`1e-2`)
        num_neighbors ([int], optional): If given, training propagates over
            subgraphs of the nodes of a batch, which are contrasted with each
            other, and at most so many neighbors per node and relation (-1 for
            all) in each of :math:`L + 2` hops. (default: :obj:`None`)
        num_contrasts (int, optional): The number of nodes that are drawn at
            each step for the denominators of the contrastive loss, beside
            those of the batch; all if :obj:`None`. (default: :obj:`None`)
        reg_weight (float, optional): The weight of the squared norms of the
            ID embeddings. (default: :obj:`1e-4`)
        k (int, optional): The number of generated edges per user and
            modality. (default: :obj:`1`)
        candidates (str, optional): The items they may lead to, see
            :meth:`~diffmm_pyg.diffusion.GraphDiffusion.generate`.
            (default: :obj:`"all"`)
        weighting (str, optional): Their weights, see
            :meth:`~diffmm_pyg.diffusion.GraphDiffusion.generate`.
            (default: :obj:`"score"`)
        weight_scale (float, optional): The factor of these weights.
            (default: :obj:`1.0`)
        edge_dropout (float, optional): The probability with which entries of
            the generated graphs are dropped, once per epoch.
            (default: :obj:`0.0`)
        dropout_at_test (bool, optional): If set to :obj:`True`, the graphs
            that the last epoch dropped entries from also serve for ranking,
            as in the released code. (default: :obj:`False`)
        normalize_msi (bool, optional): If set to :obj:`True`, the denoisers
            see normalized features. (default: :obj:`False`)
        denoiser_passes (int, optional): The number of times that the
            denoisers see every user (if they find hidden items, with two
            items or more) in an epoch. (default: :obj:`1`)
        denoiser_weight (float, optional): The weight of the scores of the
            denoisers in the ranking, that of the embeddings being one.
            (default: :obj:`0.0`)
        drift_weight (float, optional): The same of the scores of
            :class:`~diffmm_pyg.nn.models.Drift`, which help where what is to
            be predicted came last, and do harm elsewhere.
            (default: :obj:`0.0`)
        conv (str or Callable, optional): The convolution on the observed
            graph: the name of one of :obj:`torch_geometric.nn` or, from
            Python, a class, or a function that makes one of
            :obj:`hidden_channels`. (default: :obj:`"ModalityConv"`)
        conv_kwargs (Dict[str, Any], optional): More arguments of it, plain
            values. (default: :obj:`None`)
        denoised_conv (str or Callable, optional): The same on the generated
            graph of every modality. (default: :obj:`"ModalityConv"`)
        denoised_conv_kwargs (Dict[str, Any], optional): More arguments of it,
            plain values. (default: :obj:`None`)

    Raises:
        ConfigError: If a convolution does not fit.
        ValueError: If another argument has no usable value.
    """
    diffusion_class = GraphDiffusion  # Of :meth:`from_sizes`.

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: Dict[str, int],
        diffusion: GraphDiffusion,
        hidden_channels: int = 64,
        num_layers: int = 1,
        projection: Literal['linear', 'leaky_relu'] = 'linear',
        adj_weight: float = 0.2,
        residual_weight: float = 0.5,
        anchor: Literal['main', 'modality'] = 'main',
        temperature: float = 0.5,
        ssl_weight: float = 1e-2,
        num_neighbors: Optional[List[int]] = None,
        num_contrasts: Optional[int] = None,
        reg_weight: float = 1e-4,
        k: int = 1,
        candidates: Literal['all', 'unseen', 'observed'] = 'all',
        weighting: Literal['binary', 'score'] = 'score',
        weight_scale: float = 1.0,
        edge_dropout: float = 0.0,
        dropout_at_test: bool = False,
        normalize_msi: bool = False,
        denoiser_passes: int = 1,
        denoiser_weight: float = 0.0,
        drift_weight: float = 0.0,
        conv: Conv = 'ModalityConv',
        conv_kwargs: Optional[Dict[str, Any]] = None,
        denoised_conv: Conv = 'ModalityConv',
        denoised_conv_kwargs: Optional[Dict[str, Any]] = None,
    ):
        super().__init__()
        check_modalities(list(in_channels))
        self.num_users = num_users
        self.num_items = num_items
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.projection = projection
        self.adj_weight = adj_weight
        self.residual_weight = residual_weight
        self.anchor = anchor
        self.temperature = temperature
        self.ssl_weight = ssl_weight
        self.num_neighbors = num_neighbors
        self.num_contrasts = num_contrasts
        self.reg_weight = reg_weight
        self.k = k
        self.candidates = candidates
        self.weighting = weighting
        self.weight_scale = weight_scale
        self.edge_dropout = edge_dropout
        self.dropout_at_test = dropout_at_test
        self.normalize_msi = normalize_msi
        self.denoiser_passes = denoiser_passes
        self.denoiser_weight = denoiser_weight
        self.drift_weight = drift_weight
        self.conv = conv_name(conv)
        self.conv_kwargs = conv_kwargs
        self.denoised_conv = conv_name(denoised_conv)
        self.denoised_conv_kwargs = denoised_conv_kwargs
        self.diffusion = diffusion
        check_values(self)

        self.user_embedding = Embedding(num_users, hidden_channels)
        self.item_embedding = Embedding(num_items, hidden_channels)
        self.encoders = ModuleDict({
            m: ModalityEncoder(channels, hidden_channels, projection)
            for m, channels in in_channels.items()
        })
        self.fusion = ModalityFusion(list(in_channels))
        self.observed_conv = StackedConv(
            conv_resolver(conv, hidden_channels, conv_kwargs))
        self.denoised_convs = ModuleDict({
            m: StackedConv(conv_resolver(denoised_conv, hidden_channels,
                                         denoised_conv_kwargs))
            for m in in_channels
        })
        check_weights(self)
        self.reset_parameters()

    @classmethod
    def from_sizes(cls, num_users: int, num_items: int,
                   in_channels: Dict[str, int],
                   **kwargs: Any) -> 'DiffMM':
        diffusion = cls.diffusion_class(num_items, list(in_channels),
                                        **kwargs.pop('diffusion', {}))
        return cls(num_users, num_items, in_channels, diffusion, **kwargs)

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        for table in [self.user_embedding, self.item_embedding]:
            torch.nn.init.xavier_uniform_(table.weight)
        for module in [self.encoders, self.fusion, self.diffusion,
                       self.observed_conv, self.denoised_convs]:
            reset(module)

    @property
    def modalities(self) -> List[str]:
        return self.fusion.modalities

    def forward(self, x_dict: Dict[str, Tensor], adj: StackedAdj,
                denoised_adj_dict: Dict[str, StackedAdj],
                mask_dict: Masks = None,
                with_views: bool = True) -> DiffMMOutput:
        r"""Computes embeddings.

        Args:
            x_dict (Dict[str, torch.Tensor]): The raw features of the items,
                of shape :math:`(|\mathcal{I}|, F_m)`, per modality.
            adj (StackedAdj): The observed graph.
            denoised_adj_dict (Dict[str, StackedAdj]): The generated graphs.
            mask_dict (Dict[str, torch.Tensor], optional): The items
                :math:`(|\mathcal{I}|)` that have it. (default: :obj:`None`)
            with_views (bool, optional): If set to :obj:`False`, leaves the
                contrastive views out. (default: :obj:`True`)
        """
        return diffmm_forward(self, x_dict, adj, denoised_adj_dict, mask_dict,
                              with_views)

    def batch_forward(self, batch: HeteroData,
                      with_views: bool = True) -> DiffMMOutput:
        r"""Computes the embeddings of the seeds of a subgraph that a loader
        of PyG drew from a :meth:`~diffmm_pyg.transforms.sampling_graph`, over
        :obj:`num_layers + 2` hops: fewer leave something out.
        """
        return batch_forward(self, batch, with_views)

    def batch_loss(self, batch: HeteroData,
                   batch_size: Optional[int] = None) -> Dict[str, Tensor]:
        r"""Computes :meth:`loss` for the triplets of such a subgraph."""
        return batch_loss(self, batch, batch_size)

    def loss(self, out: DiffMMOutput, user: Tensor, pos_item: Tensor,
             neg_item: Tensor, batch_size: Optional[int] = None,
             mask_dict: Masks = None,
             generator: Optional[torch.Generator] = None) -> Dict[str, Tensor]:
        r"""Computes the :obj:`loss` of a batch of triplets, all of shape
        :obj:`[N]`, and its parts :obj:`bpr`, :obj:`reg` and :obj:`ssl`.
        """
        return diffmm_loss(self, out, user, pos_item, neg_item, batch_size,
                           mask_dict, generator)

    def check(self, data: HeteroData) -> None:
        r"""Checks that :obj:`data` has the sizes this model was made for."""
        check_sizes(data, self.num_users, self.num_items, self.in_channels)

    def phases(self, data: HeteroData) -> List[Phase]:
        return diffmm_phases(self, data)

    def embed(self, data: HeteroData) -> Embeddings:
        return diffmm_embeddings(self, data)

    def explain(self, user: Id, item: Id,
                data: Optional[HeteroData] = None) -> DiffMMExplanation:
        r"""Explains the score of :obj:`item` for :obj:`user` by original ids,
        without what denoisers and drift add to the ranking.
        """
        return explain_diffmm(self, self.graph(data), user, item)

    def __repr__(self) -> str:
        return (f'{self.__class__.__name__}({self.num_users}, '
                f'{self.num_items}, modalities={self.modalities}, '
                f'num_layers={self.num_layers})')
