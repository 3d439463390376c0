import csv
import json
import os
from typing import Any, Dict, List

import torch
from torch import Tensor

from diffmm_pyg.errors import RunError
from diffmm_pyg.runs.embeddings import embeddings_from_tensors
from diffmm_pyg.runs.run import Run
from diffmm_pyg.runs.save import (
    CHECKPOINTS,
    FILES,
    FORMAT,
    import_safetensors,
    warn_of_successor,
)
from diffmm_pyg.typing import ITEM, USER


def load(folder: str) -> Run:
    r"""Reads a run. No file of it can run code.

    Args:
        folder (str): The folder that :meth:`~diffmm_pyg.fit`, or the command
            line, wrote.

    Raises:
        RunError: If :obj:`folder` holds no run, or a damaged one.
        MissingExtraError: If :obj:`safetensors` is not installed.
    """
    if (not os.path.isfile(os.path.join(folder, 'config.json'))
            and os.path.isdir(os.path.join(folder, CHECKPOINTS))):
        raise RunError(f"'{folder}' holds a training that has not finished; "
                       f"go on with it by 'train --resume {folder}'")
    for name in FILES:
        if not os.path.isfile(os.path.join(folder, name)):
            raise RunError(f"'{folder}' is not a run: '{name}' is missing; "
                           f"name a folder that 'train' wrote")
    config = _read_json(folder, 'config.json')
    if config.pop('format', None) != FORMAT:
        raise RunError(f"'{folder}' is not of format {FORMAT}, which this "
                       f"version of diffmm_pyg reads; train again")
    training = config.get('training')
    if (not isinstance(training, dict)
            or type(training.get('top_k')) is not int
            or training.get('protocol') not in ['strict', 'paper']):
        raise _damaged(folder, 'config.json', 'no description of a training')

    ids = _read_json(folder, 'ids.json')
    embeddings = _read_tensors(folder, 'embeddings.safetensors')
    graphs = _read_tensors(folder, 'graphs.safetensors')
    dense = f'{USER}.dense' if f'{USER}.dense' in embeddings else USER
    sizes = [
        _check_nodes(folder, kind, embeddings.get(name), ids.get(kind))
        for kind, name in [(USER, dense), (ITEM, ITEM)]
    ]
    for name in {'observed', 'val', 'test'} & {'observed', *graphs}:
        _check_edges(folder, name, graphs.get(name), sizes)
    if dense != USER:
        scale = embeddings.get(f'{USER}.scale')
        if (scale is None or scale.size() != (sizes[0], )
                or scale.dtype != embeddings[ITEM].dtype
                or not torch.isfinite(scale).all()):
            raise _damaged(folder, 'embeddings.safetensors',
                           'no finite scale of each user')
    user_emb, item_emb = embeddings_from_tensors(embeddings,
                                                 graphs['observed'])
    if (user_emb.size(1) != item_emb.size(1)
            or embeddings[dense].dtype != item_emb.dtype):
        raise _damaged(folder, 'embeddings.safetensors',
                       'unequal widths or types')
    run = Run(
        config,
        _read_json(folder, 'metrics.json'),
        _read_history(folder, 'history.csv'),
        _read_tensors(folder, 'model.safetensors'),
        graphs,
        user_emb,
        item_emb,
        ids,
    )
    run.folder = folder
    warn_of_successor(folder)
    return run


def _damaged(folder: str, name: str, reason: Any) -> RunError:
    reason = str(reason).strip().split('\n')[0]
    return RunError(f"'{os.path.join(folder, name)}' is damaged ({reason}); "
                    f"train again")


def _check_nodes(folder: str, kind: str, emb: Any, ids: Any) -> int:
    if (emb is None or emb.dim() != 2
            or emb.dtype not in [torch.float32, torch.float64]
            or not torch.isfinite(emb).all()):
        raise _damaged(folder, 'embeddings.safetensors',
                       f'no finite embeddings of {kind}s')
    if not isinstance(ids, list) or len(ids) != emb.size(0):
        raise _damaged(folder, 'ids.json',
                       f'not one id for each of {emb.size(0)} {kind}s')
    return emb.size(0)


def _check_edges(folder: str, name: str, edge_index: Any,
                 sizes: List[int]) -> None:
    limit = torch.tensor(sizes).view(2, 1)
    if (edge_index is None or edge_index.dtype != torch.long
            or edge_index.dim() != 2 or edge_index.size(0) != 2
            or (edge_index < 0).any() or (edge_index >= limit).any()):
        raise _damaged(folder, 'graphs.safetensors',
                       f"no valid edges '{name}'")


def _read_tensors(folder: str, name: str) -> Dict[str, Tensor]:
    module = import_safetensors()
    try:
        return module.torch.load_file(os.path.join(folder, name))
    except Exception as e:  # Its errors have no common base.
        raise _damaged(folder, name, e) from e


def _read_json(folder: str, name: str) -> Dict[str, Any]:
    try:
        with open(os.path.join(folder, name), encoding='utf-8') as f:
            content = json.load(f)
    except (ValueError, RecursionError, OSError) as e:
        raise _damaged(folder, name, e) from e
    if not isinstance(content, dict):
        raise _damaged(folder, name, 'no object')
    return content


def _read_history(folder: str, name: str) -> List[Dict[str, float]]:
    try:
        with open(os.path.join(folder, name), newline='',
                  encoding='utf-8') as f:
            return [{k: float(v) for k, v in row.items()}
                    for row in csv.DictReader(f)]
    except (ValueError, TypeError, AttributeError, OSError, csv.Error) as e:
        raise _damaged(folder, name, e) from e
