import platform
from typing import Any, Dict, List

import numpy
import scipy
import torch
from torch import Tensor

import diffmm_pyg
import torch_geometric
from diffmm_pyg.data import data_hash, modality_features
from diffmm_pyg.datasets.ids import node_ids
from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.nn.models import Recommender
from diffmm_pyg.runs.run import Run
from diffmm_pyg.typing import INTERACTS, ITEM, USER
from diffmm_pyg.utils import RowEmbedding, UserEmbedding
from diffmm_pyg.utils.hyper_parameters import hyper_parameter_values
from diffmm_pyg.utils.sparse_backend import sparse_backend
from torch_geometric.data import HeteroData


def describe_training(
    model: Recommender,
    data: HeteroData,
    labels: Dict[str, Tensor],
    training: Dict[str, Any],
    origin: Dict[str, Any],
) -> Dict[str, Any]:
    r"""Returns what a run records of what it is made from.

    Args:
        model (Recommender): The model.
        data (HeteroData): The training graph.
        labels (Dict[str, torch.Tensor]): The positives :obj:`[2, N]` of
            validation and test.
        training (Dict): The arguments of the training.
        origin (Dict): What else is to be known of where the run comes from.
    """
    device = data[INTERACTS].edge_index.device
    return {
        'training': training,
        **describe_model(model),
        'data': {
            'num_users': data[USER].num_nodes,
            'num_items': data[ITEM].num_nodes,
            'channels': {m: x.size(1)
                         for m, x in modality_features(data).items()},
            'hash': data_hash(data, labels),
        },
        'origin': {
            **origin,
            'device': str(device),
            'sparse_backend': sparse_backend(device),
        },
        'versions': versions(),
    }


def to_run(
    config: Dict[str, Any],
    model: Recommender,
    data: HeteroData,
    labels: Dict[str, Tensor],
    metrics: Dict[str, Any],
    history: List[Dict[str, float]],
    user_emb: UserEmbedding,
    item_emb: Tensor,
) -> Run:
    r"""Collects what a training leaves into a run, on the CPU.

    Args:
        config (Dict): What :meth:`describe_training` returned.
        model (Recommender): The trained model.
        data (HeteroData): The training graph, with generated edges.
        labels (Dict[str, torch.Tensor]): The positives :obj:`[2, N]` of
            validation and test.
        metrics (Dict): The metrics of the best epoch.
        history ([Dict]): Losses and metrics of every epoch.
        user_emb (torch.Tensor or RowEmbedding): The embeddings
            :math:`(|\mathcal{U}|, F)`; rows are those of training.
        item_emb (torch.Tensor): The embeddings :math:`(|\mathcal{I}|, F)`.
    """
    graphs = {'observed': data[INTERACTS].edge_index, **labels}
    for edge_type in data.edge_types:
        if edge_type[1].startswith('denoised_'):
            for name in ['edge_index', 'edge_weight']:
                graphs[f'{edge_type[1]}.{name}'] = data[edge_type][name]
    if 'edge_dropout_key' in data:
        graphs['edge_dropout_key'] = data.edge_dropout_key
    return Run(
        config, metrics, history,
        state={k: v.detach().cpu().contiguous()
               for k, v in model.state_dict().items()},
        graphs={k: v.cpu().contiguous() for k, v in graphs.items()},
        user_emb=to_cpu(user_emb),
        item_emb=to_cpu(item_emb),
        ids={kind: node_ids(data, kind) for kind in [USER, ITEM]},
    )


def to_cpu(emb: UserEmbedding) -> Any:
    r"""Moves embeddings to the CPU."""
    if isinstance(emb, RowEmbedding):
        return emb.apply(to_cpu)
    return emb.cpu().contiguous()


def describe_model(model: Recommender) -> Dict[str, Any]:
    r"""Returns the name of a model and its hyper-parameters, and those of its
    diffusion, by which it can be built again.

    Args:
        model (Recommender): The model.
    """
    out = {'class': type(model).__name__,
           'model': hyper_parameter_values(type(model), model)}
    diffusion = getattr(model, 'diffusion', None)
    if isinstance(diffusion, GraphDiffusion):
        out['diffusion'] = diffusion.hyper_parameters()
    return out


def versions() -> Dict[str, str]:
    r"""Returns the versions of what the numbers of a run depend on."""
    return {
        'diffmm_pyg': diffmm_pyg.__version__,
        'python': platform.python_version(),
        'torch': torch.__version__,
        'torch_geometric': torch_geometric.__version__,
        'numpy': numpy.__version__,
        'scipy': scipy.__version__,
    }
