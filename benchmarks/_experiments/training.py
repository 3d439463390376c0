r"""What the processes of cells and of trials do."""
import hashlib
import json
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

from _experiments.models import Config, build
from _experiments.processes import Job
from diffmm_pyg.nn.models import Recommender
from diffmm_pyg.runs import Run
from diffmm_pyg.training import fit
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData


def train(job: Job, data: List[HeteroData], folder: Path,
          parts: Optional[Path] = None) -> Tuple[Run, float]:
    r"""Trains a model by the protocol that never looks at the test split to
    choose anything; it is watched if it is among :obj:`data`. Parts that are
    trained by themselves come first.

    Args:
        job (Dict): What to train, and the seed.
        data ([HeteroData]): The splits.
        folder (Path): Where the training is kept, which goes on from there.
        parts (Path, optional): Where the trainings of parts on this data are
            kept, so that none runs twice; :obj:`folder` if not given.
            (default: :obj:`None`)

    Returns:
        The run, and the seconds that all epochs took.
    """
    seed_everything(job['seed'])
    model = build(job['config'], data[0])
    options = dict(seed=job['seed'], protocol='strict', watch_test=True,
                   progress=False, resume=True, checkpoint_minutes=1.,
                   checkpoint_epochs=False)  # Most epochs take seconds.
    seconds = 0.
    for part, config in _parts(model, job['config']):
        text = json.dumps(config, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:24]
        seconds += _seconds(fit(part, data, **config['training'], **options,
                                out=str((parts or folder) / name)))
    run = fit(model, data, **job['config']['training'], **options,
              out=str(folder / 'model'))
    return run, seconds + _seconds(run)


def _parts(model: Recommender,
           config: Config) -> Iterator[Tuple[Recommender, Config]]:
    for part, x in zip(getattr(model, 'models', []), config.get('models', []),
                       strict=True):
        if 'training' in x:
            yield part, x


def _seconds(run: Run) -> float:
    return sum(row['seconds'] for row in run.history)
