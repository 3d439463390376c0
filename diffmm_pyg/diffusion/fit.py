from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import Tensor

from diffmm_pyg.diffusion.corruption import training_rows
from diffmm_pyg.diffusion.relation import relation_features, relation_rows
from diffmm_pyg.typing import INTERACTS, EdgeType
from diffmm_pyg.utils.checks import check_range
from diffmm_pyg.utils.epoch import train_epoch
from torch_geometric.data import HeteroData


def fit(
    self: Any,  # The model, of which this is a method.
    data: HeteroData,
    edge_type: EdgeType = INTERACTS,
    features: Optional[Dict[str, str]] = None,
    epochs: int = 100,
    batch_size: int = 1024,
    lr: float = 1e-3,
    seed: int = 0,
) -> List[Dict[str, float]]:
    r"""Trains the denoisers, without a recommender and on their own device, on
    a bipartite relation of any graph, of which nothing else is read but the
    features that are named.

    .. code-block:: python

        diffusion = GraphDiffusion(data['movie'].num_nodes, ['image', 'text'],
                                   likelihood='multinomial', normalize=True)
        diffusion.fit(data, ('user', 'rates', 'movie'),
                      features={'image': 'x_image', 'text': 'clip'})
        data = AddDenoisedEdges(diffusion, ('user', 'rates', 'movie'))(data)

    As there are no learned projections and embeddings, the modality-aware
    signal injection compares the raw features :math:`\mathbf{P}^m`, of unit
    norm, of what is predicted and of what was to be predicted, here
    :math:`x_0`:

    .. math::
        \lambda_{\text{msi}} \frac{1}{F} \| \hat{x}^m_0 \mathbf{P}^m -
        x_0 \mathbf{P}^m \|^2.

    Args:
        data (HeteroData): The graph, *e.g.*, the training split of
            :class:`~torch_geometric.transforms.RandomLinkSplit`.
        edge_type (Tuple[str, str, str], optional): The relation.
            (default: :obj:`('user', 'interacts', 'item')`)
        features (Dict[str, str], optional): For every modality, the attribute
            of the destination nodes that holds its features
            :math:`(|\mathcal{I}|, F_m)`; a row of NaN is a missing one. If not
            given, no signal is injected. (default: :obj:`None`)
        epochs (int, optional): The number of passes over all source nodes,
            or, if items are hidden, those with two or more; some hundreds of
            steps are needed. (default: :obj:`100`)
        batch_size (int, optional): The number of source nodes of a batch.
            (default: :obj:`1024`)
        lr (float, optional): The learning rate of Adam.
            (default: :obj:`1e-3`)
        seed (int, optional): The seed of all random draws.
            (default: :obj:`0`)

    Returns:
        The means of :obj:`loss`, :obj:`elbo` and :obj:`msi` in every epoch.

    Raises:
        ConfigError: If :obj:`data` and the model do not fit each other.
        DataError: If :obj:`data` does not hold what it must hold.
        RunError: If the loss is not finite.
    """
    check_range('epochs', epochs, 1)
    check_range('batch_size', batch_size, 1)
    check_range('lr', lr, 0, open_low=True)
    check_range('seed', seed, 0)
    rows = relation_rows(self, data, edge_type)
    feat_dict = relation_features(self, data, edge_type[2], features)

    trained = training_rows(self, rows)

    def loss(index: Tensor, key: Tuple[int, ...]) -> Dict[str, Tensor]:
        return self.loss(rows.select(trained[index]), feat_dict, seed=key)

    self.train()
    optimizer = torch.optim.Adam(self.parameters(), lr, fused=True)
    return [
        train_epoch(loss, optimizer, trained.numel(), batch_size,
                    (seed, epoch, 0), 'diffusion', rows.col.device)
        for epoch in range(epochs)
    ]
