import os
from typing import Optional, Sequence

from diffmm_pyg.datasets import (
    FakeMultiModalRec,
    MultiModalRec,
    hetero_data_from_folder,
)
from diffmm_pyg.datasets.published import PUBLISHED
from diffmm_pyg.errors import ConfigError
from torch_geometric.data import HeteroData

EMBEDDED = 'fake'


def default_root() -> str:
    r"""Returns the folder for downloaded and processed data: that of the
    checkout, or one in the user's cache.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    checkout = os.path.dirname(package)
    if os.path.isfile(os.path.join(checkout, 'setup.cfg')):
        return os.path.join(checkout, 'datasets')
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return os.path.join(cache, 'diffmm_pyg')


def load_data(
    data: str,
    root: Optional[str] = None,
    source: Optional[str] = None,
    modalities: Optional[Sequence[str]] = None,
) -> Sequence[HeteroData]:
    r"""Loads a dataset by what the command line calls it: the generated one
    (:obj:`"fake"`), the name of a published one, or a folder.

    Raises:
        ConfigError: If there is no such dataset, or it has no such modality.
        DataError: If a file is missing or damaged.
    """
    if modalities is not None and len(set(modalities)) < len(modalities):
        raise ConfigError(f"'--modalities' names one twice "
                          f"(got {' '.join(modalities)})")
    if data == EMBEDDED:
        return FakeMultiModalRec(modalities=modalities)
    if data in PUBLISHED:
        source = source or os.environ.get('DIFFMM_DATA') or None
        return MultiModalRec(root or default_root(), data, source, modalities)
    if os.path.isdir(data):
        return hetero_data_from_folder(data, modalities)
    names = ', '.join([EMBEDDED, *PUBLISHED])
    raise ConfigError(f"There is no dataset and no folder '{data}'; name one "
                      f"of {names}, or a folder with 'interactions.csv'")
