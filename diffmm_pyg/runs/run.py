from typing import Any, Dict, List, Optional, Sequence, Union

import torch
from torch import Tensor

from diffmm_pyg.errors import ConfigError, DiffMMError, RunError
from diffmm_pyg.evaluation import evaluate, unranked_items
from diffmm_pyg.nn.models import MODELS, Recommender
from diffmm_pyg.recommendation import Id, Recommendations, recommend
from diffmm_pyg.utils import SparseRows, UserEmbedding
from diffmm_pyg.utils.checks import check_k


class Run:
    r"""A finished training: all that is needed to rank and to evaluate, with
    the original data gone.

    Args:
        config (Dict): The hyper-parameters and what the run was made from.
        metrics (Dict): The metrics of the best epoch, and its number, from 1.
        history ([Dict]): Losses and metrics of every epoch.
        state (Dict[str, torch.Tensor]): The parameters of the model.
        graphs (Dict[str, torch.Tensor]): Edges: :obj:`observed`, the
            positives :obj:`val` and :obj:`test`, and for every modality the
            generated ones with their weights.
        user_emb (torch.Tensor or RowEmbedding): The embeddings
            :math:`(|\mathcal{U}|, F)`.
        item_emb (torch.Tensor): The embeddings :math:`(|\mathcal{I}|, F)`.
        ids (Dict[str, List]): The original ids of users and items.
    """
    def __init__(self, config: Dict[str, Any], metrics: Dict[str, Any],
                 history: List[Dict[str, float]], state: Dict[str, Tensor],
                 graphs: Dict[str, Tensor], user_emb: UserEmbedding,
                 item_emb: Tensor, ids: Dict[str, List[Id]]):
        self.config = config
        self.metrics = metrics
        self.history = history
        self.state = state
        self.graphs = graphs
        self.user_emb = user_emb
        self.item_emb = item_emb
        self.ids = ids
        self.folder: Optional[str] = None  # Where it was written to.

    @property
    def num_users(self) -> int:
        r"""The number of users."""
        return self.user_emb.size(0)

    @property
    def num_items(self) -> int:
        r"""The number of items."""
        return self.item_emb.size(0)

    def recommend(
        self,
        users: Optional[Union[Id, Sequence[Id], Tensor]] = None,
        k: int = 20,
    ) -> Recommendations:
        r"""Recommends the :obj:`k` best items to users, by their original
        ids, without what they are known to have interacted with in training.

        Args:
            users (int, str or Sequence, optional): The ids of the
                users; all of them if not given. (default: :obj:`None`)
            k (int, optional): The number of items per user.
                (default: :obj:`20`)

        Raises:
            ConfigError: If an id is unknown or :obj:`k` is out of range.
        """
        seen = SparseRows.from_edge_index(self.graphs['observed'],
                                          self.num_users, self.num_items)
        return recommend(self.user_emb, self.item_emb, seen, self.ids, users,
                         k)

    def evaluate(self, k: Optional[Sequence[int]] = None,
                 ) -> Dict[str, Dict[str, float]]:
        r"""Computes the metrics of validation and test anew from the
        embeddings, under the protocol of the run.

        Args:
            k ([int], optional): The numbers of recommendations; that of the
                training if not given. (default: :obj:`None`)

        Raises:
            ConfigError: If one of them is out of range.
        """
        training = self.config['training']
        k = [training['top_k']] if k is None else k
        for value in k:
            check_k(value, self.num_items)
        labels = {name: self.graphs[name] for name in ['val', 'test']
                  if name in self.graphs}
        return {
            name: evaluate(
                self.user_emb, self.item_emb, label,
                unranked_items(self.graphs['observed'], labels, name,
                               training['protocol'], self.num_users,
                               self.num_items), k)
            for name, label in labels.items()
        }

    def model(self, **kwargs: Any) -> Recommender:
        r"""Builds the trained model again.

        Args:
            **kwargs (optional): What takes the place of hyper-parameters:
                code of one's own, which no file of the run holds, *e.g.*,
                :obj:`conv=MyConv`.

        Raises:
            ConfigError: If its class is not one of this library, or a
                convolution is missing that is none of PyG's.
            RunError: If the parameters are not those of such a model.
        """
        try:
            with torch.device('meta'):  # No memory for what is only claimed.
                draft = recorded_model(self.config, **kwargs).state_dict()
            for name in draft.keys() | self.state.keys():
                if draft[name].size() != self.state[name].size():
                    raise RunError(f"The run holds no model that can be built "
                                   f"(its '{name}' is of another size than "
                                   f"its 'config.json' says); train again")
            model = recorded_model(self.config, **kwargs)
            model.load_state_dict(self.state)
        except DiffMMError:
            raise
        except Exception as e:  # Any, as hyper-parameters may be anything.
            reason = str(e).strip().split('\n')[0]
            raise RunError(f"The run holds no model that can be built "
                           f"({type(e).__name__}: {reason}); train "
                           f"again") from e
        return model.eval()


def recorded_model(config: Dict[str, Any], **kwargs: Any) -> Recommender:
    r"""Builds a model, with new parameters, from what a run records of it,
    with :obj:`kwargs` in the place of hyper-parameters.

    Args:
        config (Dict): What the run records.
        **kwargs (optional): Hyper-parameters.

    Raises:
        ConfigError: If its class is not one of this library, or a convolution
            is missing that is none of PyG's.
    """
    name = config['class']
    if name not in MODELS:
        raise ConfigError(f"The run holds a model of class '{name}', which is "
                          f"not one of diffmm_pyg; build it, and load the "
                          f"parameters 'run.state'")
    data, kwargs = config['data'], {**config['model'], **kwargs}
    if 'diffusion' in config:
        kwargs['diffusion'] = config['diffusion']
    return MODELS[name].from_sizes(data['num_users'], data['num_items'],
                                   data['channels'], **kwargs)
