from typing import Dict, NamedTuple, Optional, Tuple

from torch import Tensor

from diffmm_pyg.nn.models import Recommender
from diffmm_pyg.training.generated import Generated
from diffmm_pyg.utils import RowEmbedding, UserEmbedding


class Kept(NamedTuple):
    r"""What is kept of an epoch."""
    epoch: int
    value: float
    state: Dict[str, Tensor]
    generated: Dict[str, Tensor]
    embeddings: Tuple[UserEmbedding, Tensor]


class Best:
    r"""Keeps what the best epoch so far consists of: parameters, what was
    generated in the graph, and embeddings.

    Args:
        metric (str): The metric that decides; an epoch without it is better
            than those before.
    """
    def __init__(self, metric: str):
        self.metric = metric
        self.kept: Optional[Kept] = None

    @property
    def epoch(self) -> int:
        r"""The best epoch, -1 before the first one."""
        return -1 if self.kept is None else self.kept.epoch

    def update(self, epoch: int, row: Dict[str, float], model: Recommender,
               generated: Generated,
               embeddings: Tuple[UserEmbedding, Tensor]) -> None:
        r"""Keeps the epoch if it is the best so far."""
        value = row.get(self.metric, float('inf'))
        if (self.kept is not None and self.metric in row
                and value <= self.kept.value):
            return
        state = {k: v.clone() for k, v in model.state_dict().items()}
        user_emb, item_emb = embeddings  # They may be parameters.
        self.kept = Kept(epoch, value, state, generated.tensors(),
                         (_clone(user_emb), item_emb.clone()))

    def restore(self, model: Recommender,
                generated: Generated) -> Tuple[UserEmbedding, Tensor]:
        r"""Sets the model and the graph back to the best epoch and returns
        its embeddings.
        """
        assert self.kept is not None
        model.load_state_dict(self.kept.state)
        generated.restore(self.kept.generated)
        return self.kept.embeddings


def _clone(emb: UserEmbedding) -> UserEmbedding:
    if isinstance(emb, RowEmbedding):
        return emb.apply(Tensor.clone)
    return emb.clone()
