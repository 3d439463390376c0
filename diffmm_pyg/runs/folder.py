import csv
import json
import logging
import os
import shutil
from typing import Any, Dict, List

from torch import Tensor

from diffmm_pyg.errors import MissingExtraError, RunError
from diffmm_pyg.runs.curves import plot_curves
from diffmm_pyg.runs.run import Run
from diffmm_pyg.typing import ITEM, USER

logger = logging.getLogger(__name__)

FORMAT = 1
FILES = [
    'config.json', 'metrics.json', 'history.csv', 'ids.json',
    'model.safetensors', 'graphs.safetensors', 'embeddings.safetensors'
]


def check_out(folder: str, overwrite: bool = False) -> None:
    r"""Checks, before any work is done, that a run can be written.

    Raises:
        RunError: If :obj:`folder` holds something that may not be replaced,
            or cannot be created.
        MissingExtraError: If :obj:`safetensors` is not installed.
    """
    _safetensors()
    if os.path.lexists(folder):
        if not os.path.isdir(folder):
            raise RunError(f"'{folder}' is a file; name a folder for the run")
        is_run = os.path.exists(os.path.join(folder, 'config.json'))
        if is_run and not overwrite:
            raise RunError(f"'{folder}' already holds a run; name another "
                           f"folder, or pass '--overwrite' "
                           f"(overwrite=True) to replace it")
        if not is_run and len(os.listdir(folder)) > 0:
            raise RunError(f"'{folder}' is not empty and holds no run; name "
                           f"another folder, so that nothing is lost")
    parent = os.path.dirname(os.path.abspath(folder))
    try:
        os.makedirs(parent, exist_ok=True)
    except OSError as e:
        raise RunError(f"'{parent}' cannot be created ({e.strerror}); name "
                       f"another folder for the run") from e
    if not os.access(parent, os.W_OK):
        raise RunError(f"'{parent}' is not writable; name another folder for "
                       f"the run")


def save_run(run: Run, folder: str, overwrite: bool = False) -> None:
    r"""Writes a run to a folder: :obj:`config.json`, :obj:`metrics.json`,
    :obj:`history.csv`, :obj:`ids.json`, the parameters
    :obj:`model.safetensors`, the graphs :obj:`graphs.safetensors`, the
    :obj:`embeddings.safetensors` to rank with, and :obj:`curves.png` where
    :obj:`matplotlib` is installed. The folder appears when it is whole.

    Raises:
        RunError: If the folder cannot be written.
    """
    check_out(folder, overwrite)
    save_file = _safetensors().save_file
    partial = f'{os.path.abspath(folder)}.partial-{os.getpid()}'
    shutil.rmtree(partial, ignore_errors=True)
    try:
        os.makedirs(partial)
        for name, content in [
            ('config.json', {'format': FORMAT, **run.config}),
            ('metrics.json', run.metrics),
            ('ids.json', run.ids),
        ]:
            with open(os.path.join(partial, name), 'w') as f:
                json.dump(content, f, indent=None if name == 'ids.json' else 2)
        _write_history(run.history, os.path.join(partial, 'history.csv'))
        embeddings = {USER: run.user_emb, ITEM: run.item_emb}
        for name, tensors in [('model', run.state), ('graphs', run.graphs),
                              ('embeddings', embeddings)]:
            path = os.path.join(partial, f'{name}.safetensors')
            save_file(tensors, path)
            # It writes files that only their owner can read.
            shutil.copymode(os.path.join(partial, 'config.json'), path)
        try:
            plot_curves(run.history, os.path.join(partial, 'curves.png'))
        except MissingExtraError as e:
            logger.warning('curves.png was not drawn: %s', e)
        _replace(partial, folder)
    except OSError as e:
        raise RunError(f"The run could not be written to '{folder}' "
                       f"({e.strerror or e}); free some space or name another "
                       f"folder") from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load(folder: str) -> Run:
    r"""Reads a run. No file of it can run code.

    Raises:
        RunError: If :obj:`folder` holds no run, or a damaged one.
    """
    for name in FILES:
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            raise RunError(f"'{folder}' is not a run: '{name}' is missing; "
                           f"name a folder that 'train' wrote")
    config = _read_json(folder, 'config.json')
    if config.get('format') != FORMAT:
        raise RunError(f"'{folder}' has format {config.get('format')}; this "
                       f"version of diffmm_pyg reads format {FORMAT}")
    embeddings = _read_tensors(folder, 'embeddings.safetensors')
    for kind in [USER, ITEM]:
        if kind not in embeddings or embeddings[kind].dim() != 2:
            raise RunError(f"'{folder}/embeddings.safetensors' holds no "
                           f"embeddings of {kind}s; train again")
    run = Run(
        {k: v for k, v in config.items() if k != 'format'},
        _read_json(folder, 'metrics.json'),
        _read_history(os.path.join(folder, 'history.csv')),
        _read_tensors(folder, 'model.safetensors'),
        _read_tensors(folder, 'graphs.safetensors'),
        embeddings[USER], embeddings[ITEM],
        _read_json(folder, 'ids.json'))
    _check(run, folder)
    return run


def _check(run: Run, folder: str) -> None:
    for kind, emb in [(USER, run.user_emb), (ITEM, run.item_emb)]:
        if len(run.ids.get(kind, [])) != emb.size(0):
            raise RunError(f"'{folder}' holds {emb.size(0)} {kind}s but "
                           f"{len(run.ids.get(kind, []))} {kind} ids; train "
                           f"again")
    for name in ['observed', 'val', 'test']:
        edge_index = run.graphs.get(name)
        if edge_index is None and name != 'observed':
            continue
        if (edge_index is None or edge_index.dim() != 2
                or edge_index.size(0) != 2 or (edge_index < 0).any()
                or (edge_index[0] >= run.num_users).any()
                or (edge_index[1] >= run.num_items).any()):
            raise RunError(f"'{folder}/graphs.safetensors' holds no valid "
                           f"edges '{name}'; train again")


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as e:
        raise MissingExtraError('safetensors', 'train',
                                'to write and read runs') from e
    return safetensors.torch


def _read_tensors(folder: str, name: str) -> Dict[str, Tensor]:
    module = _safetensors()
    try:
        return module.load_file(os.path.join(folder, name))
    except Exception as e:  # Its errors have no common base.
        raise RunError(f"'{folder}/{name}' is damaged "
                       f"({str(e).splitlines()[0]}); train again") from e


def _read_json(folder: str, name: str) -> Dict[str, Any]:
    try:
        with open(os.path.join(folder, name)) as f:
            content = json.load(f)
    except (ValueError, RecursionError, OSError) as e:
        raise RunError(f"'{folder}/{name}' is damaged ({e}); train "
                       f"again") from e
    if not isinstance(content, dict):
        raise RunError(f"'{folder}/{name}' is damaged (no object); train "
                       f"again")
    return content


def _write_history(history: List[Dict[str, float]], path: str) -> None:
    with open(path, 'w', newline='') as f:
        writer = csv.DictWriter(f, list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def _read_history(path: str) -> List[Dict[str, float]]:
    try:
        with open(path, newline='') as f:
            return [{k: float(v) for k, v in row.items()}
                    for row in csv.DictReader(f)]
    except (ValueError, TypeError, AttributeError, csv.Error) as e:
        raise RunError(f"'{path}' is damaged ({e}); train again") from e


def _replace(partial: str, folder: str) -> None:
    old = None
    if os.path.isdir(folder):
        old = f'{partial}.old'
        os.rename(folder, old)
    os.rename(partial, folder)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
