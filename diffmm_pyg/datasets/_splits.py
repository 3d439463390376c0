import copy
import os.path as osp
from typing import List, Optional, Sequence, Type, Union

import torch

from diffmm_pyg.datasets.raw import one_line
from diffmm_pyg.datasets.safe_load import load_values
from diffmm_pyg.errors import DataError
from diffmm_pyg.utils.atomic import atomic_path
from torch_geometric.data import HeteroData, InMemoryDataset
from torch_geometric.data.data import BaseData

FORMAT = 1  # The version of what `save` writes.


class SplitDataset(InMemoryDataset):
    r"""Base class of datasets that consist of a training, a validation and a
    test split of one graph: :obj:`train, val, test = dataset`.

    The splits share their tensors instead of being collated, and processed
    files are read without unpickling anything but tensors and plain Python
    values. (:meth:`torch_geometric.data.InMemoryDataset.load` falls back to
    unsafe loading.)
    """
    _splits: Sequence[BaseData] = ()

    def _set_splits(self, splits: Sequence[BaseData]) -> None:
        self._splits = list(splits)
        # What PyG looks at for the number of features and the like:
        self._data = self._splits[0]

    def len(self) -> int:
        return len(self._splits)

    def get(self, idx: int) -> BaseData:
        return copy.copy(self._splits[idx])

    def to(self, device: Union[int, str, torch.device]) -> 'SplitDataset':
        r"""Moves all splits to :obj:`device`."""
        self._set_splits([copy.copy(data).to(device) for data in self._splits])
        return self

    def copy(self, idx: Optional[Sequence[int]] = None) -> 'SplitDataset':
        r"""Returns a deep copy, of the splits :obj:`idx` only if given."""
        indices = self.indices() if idx is None else idx
        out = copy.copy(self)
        out._indices = None
        out._set_splits([copy.deepcopy(self._splits[i]) for i in indices])
        return out

    @classmethod
    def save(cls, data_list: Sequence[BaseData], path: str,
             pre_transform: str = 'None') -> None:
        r"""Saves the splits to :obj:`path`, all or nothing.

        Raises:
            DataError: If they hold (by a :obj:`pre_transform`) what cannot
                be read back safely.
        """
        content = {
            'format': FORMAT,
            'pre_transform': pre_transform,
            'splits': [data.to_dict() for data in data_list],
        }
        with atomic_path(path) as tmp:
            # To an open file, as a path would leave its mark within:
            with open(tmp, 'wb') as f:
                torch.save(content, f)
            try:
                load_values(tmp)
            except Exception as e:
                raise DataError(
                    f"What 'pre_transform' ({pre_transform}) returns could "
                    f"not be read back safely ({one_line(e)}); give it as "
                    f"'transform' instead") from e

    def load(self, path: str, data_cls: Type[BaseData] = HeteroData) -> str:
        r"""Loads the splits from :obj:`path`, and returns the description of
        the :obj:`pre_transform` they went through.

        Raises:
            DataError: If the file is damaged, or not one of ours.
        """
        try:
            content = load_values(path)
            pre_transform = content['pre_transform']
            if (content['format'] != FORMAT or len(content['splits']) != 3
                    or not isinstance(pre_transform, str)):
                raise ValueError('its format is another one')
            splits: List[BaseData] = [
                data_cls.from_dict(mapping) for mapping in content['splits']
            ]
            self._set_splits(splits)
            return pre_transform
        except Exception as e:
            raise DataError(f"'{osp.abspath(path)}' is damaged or was not "
                            f"written by this package; pass "
                            f"force_reload=True to build it anew") from e
