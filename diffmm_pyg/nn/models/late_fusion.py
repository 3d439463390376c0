from typing import Dict, List, Optional, Sequence

import torch
from torch import Tensor
from torch.nn import ModuleList

from diffmm_pyg.errors import ConfigError
from diffmm_pyg.nn.models.diffmm import DiffMM
from diffmm_pyg.nn.models.recommender import Phase, Recommender
from diffmm_pyg.utils.checks import check_range
from diffmm_pyg.utils.score_fusion import (
    Embeddings,
    concat_embeddings,
    scaled,
    standardized,
)
from torch_geometric.data import HeteroData


class LateFusion(Recommender):
    r"""Ranks by a weighted sum of the scores of several models, standardized
    over all items for every user, as in `"Relevance Score Normalization for
    Metasearch" <https://doi.org/10.1145/502585.502657>`_:

    .. math::
        \hat{y}_{ui} = \sum_n w_n \frac{\hat{y}^n_{ui} - \mu^n_u}
        {\sigma^n_u}.

    The means :math:`\mu^n_u` do not change a ranking and are left out. The
    models train in turn, each by its own loss, until their sum is best; or
    each has been trained before, until it was best by itself. What a model
    without phases computes is kept for the whole training.

    Args:
        models ([Recommender]): The models. At most one of them may be an
            item-item model, and one a :class:`~diffmm_pyg.nn.DiffMM`.
        weights ([float], optional): Their weights :math:`w_n`; all 1 if not
            given. (default: :obj:`None`)
        trained (bool, optional): If set to :obj:`True`, the models have been
            trained by :meth:`~diffmm_pyg.fit`, and stay as they are.
            (default: :obj:`False`)

    Raises:
        ConfigError: If the models cannot be fused.
        ValueError: If there is no model, or not one weight of 0 or more for
            each.
    """
    weights: Tensor

    def __init__(self, models: Sequence[Recommender],
                 weights: Optional[Sequence[float]] = None,
                 trained: bool = False):
        super().__init__()
        weights = [1.] * len(models) if weights is None else list(weights)
        if len(models) == 0 or len(weights) != len(models):
            raise ValueError(f"'models' must hold at least one model, and "
                             f"'weights' one number for each of them (got "
                             f"{len(models)} and {len(weights)})")
        for weight in weights:
            check_range('weights', weight, 0)
        if sum(isinstance(model, DiffMM) for model in models) > 1:
            raise ConfigError("Two models of class 'DiffMM' would overwrite "
                              "each other's generated edges; fuse one of them "
                              "with models of other classes")
        self.models: Sequence[Recommender] = ModuleList(
            models)  # type: ignore[assignment]
        # A part of what a run keeps:
        self.register_buffer('weights', torch.tensor(weights))
        self.trained = trained
        self._data: Optional[HeteroData] = None
        self._kept: Dict[int, Optional[Embeddings]] = {}

    def phases(self, data: HeteroData) -> List[Phase]:
        out: List[Phase] = []
        self._data, self._kept = data, {}
        for i, model in enumerate(self.models):
            if self.trained and model.data is not None:
                _adopt_generated(data, model.data)
            phases = [] if self.trained else model.phases(data)
            if len(phases) == 0:
                self._kept[i] = None
            prefix = f'{type(model).__name__}.{i}'
            out += [phase._replace(name=f'{prefix}.{phase.name}')
                    for phase in phases]
        return out

    def embed(self, data: HeteroData) -> Embeddings:
        kept = self._kept if data is self._data else {}
        parts = []
        for i, weight in enumerate(self.weights.split(1)):
            part = kept.get(i)
            if part is None:
                user_emb, item_emb = self.models[i].embed(data)
                part = standardized(user_emb, item_emb), item_emb
            if i in kept:
                kept[i] = part
            parts.append((scaled(part[0], weight), part[1]))
        return concat_embeddings(parts)

    def __repr__(self) -> str:
        models = ', '.join(str(model) for model in self.models)
        return f'{self.__class__.__name__}([{models}])'


def _adopt_generated(data: HeteroData, other: HeteroData) -> None:
    r"""Writes what :obj:`other` alone holds, *e.g.*, generated edges, into
    :obj:`data`.
    """
    for store in other.stores:
        own = data if store._key is None else data[store._key]
        for name, value in store.items():
            if name not in own:
                own[name] = value
