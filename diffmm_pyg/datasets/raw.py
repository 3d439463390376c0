r"""Readers of the two kinds of raw files: feature matrices (:obj:`.npy`) and
pickled SciPy interaction matrices (:obj:`.pkl`). Both treat the file as
foreign: nothing in it is run, and no more memory is taken than it has bytes.
"""
import os.path as osp
import sys
from typing import Optional, Tuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from diffmm_pyg.datasets.safe_pickle import PickledMatrix, load_matrix
from diffmm_pyg.errors import DataError


def read_npy(path: str, kinds: str = 'fiu') -> np.ndarray:
    r"""Reads a :obj:`.npy` file.

    Args:
        path (str): The file.
        kinds (str, optional): The kinds of values to accept, as NumPy's
            :obj:`dtype.kind` calls them. (default: :obj:`"fiu"`)

    Raises:
        DataError: If the file is missing, truncated, or no such array.
    """
    check_exists(path)
    try:
        check_npy_header(path)
        # Mapping the file compares its size with what its header claims, and
        # refuses pickled objects:
        array = np.lib.format.open_memmap(path, mode='r')
    except Exception as e:
        raise DataError(f"'{path}' is truncated or no .npy file "
                        f"({one_line(e)}); fetch or save it again") from e
    if array.dtype.itemsize == 0:  # Any number of them takes no bytes.
        raise DataError(f"'{path}' holds values of no size; save it again")
    if array.dtype.kind not in kinds:
        wanted = 'real numbers' if 'f' in kinds else 'integers or text'
        raise DataError(f"'{path}' holds values of type '{array.dtype}'; save "
                        f"it again with {wanted}")
    if array.dtype.kind == 'U':
        # Python takes no string of others, and says so by a `SystemError`:
        code = np.ascontiguousarray(array).view(f'{array.dtype.byteorder}u4')
        if code.max(initial=0) > sys.maxunicode:
            raise DataError(f"'{path}' is damaged: it holds characters that "
                            f"do not exist; fetch or save it again")
    return array


def check_npy_header(path: str) -> None:
    r"""Checks that a :obj:`.npy` file is as long as its header is said to be:
    NumPy makes room for that much before it reads.

    Raises:
        ValueError: If it is not.
    """
    with open(path, 'rb') as f:
        start = f.read(12)
    # Of version 1, two bytes hold the length, of others four:
    end = 10 if start[6:7] == b'\x01' else 12
    if int.from_bytes(start[8:end], 'little') > osp.getsize(path):
        raise ValueError('its header is longer than the file')


def read_features(path: str, num_items: Optional[int] = None,
                  ) -> Tuple[Tensor, Optional[Tensor]]:
    r"""Reads the features of one modality (see :meth:`check_features`).

    Args:
        path (str): The :obj:`.npy` file.
        num_items (int, optional): The number of rows that it must have.
            (default: :obj:`None`)
    """
    array = read_npy(path)
    if num_items is not None and array.shape[:1] not in [(), (num_items, )]:
        raise DataError(f"'{path}' has {array.shape[0]} rows, but there are "
                        f"{num_items} items; give it one row per item")
    return check_features(array, path)


def check_features(array: np.ndarray,
                   name: str) -> Tuple[Tensor, Optional[Tensor]]:
    r"""Turns the features of one modality into a tensor. Half precision is
    promoted, since sums of it overflow. An item whose row is NaN throughout
    has no features.

    Shapes:
        - **output:** features :math:`(|\mathcal{I}|, F)`, and the mask of
          the items that have them :math:`(|\mathcal{I}|)`, or :obj:`None`
          if all items do.

    Raises:
        DataError: If the array is not of this shape, or a row holds NaN
            (next to numbers) or infinite values.
    """
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(f"'{name}' has shape {list(array.shape)}; features "
                        f"must have shape [num_items, F]")
    with np.errstate(over='ignore'):  # Infinite values are reported below.
        x = torch.from_numpy(np.array(array, dtype=np.float32))
    missing = x.isnan().all(dim=1)
    bad = ~x.isfinite().all(dim=1) & ~missing
    if bad.any():
        raise DataError(f"'{name}', row {int(bad.nonzero()[0])}: NaN or "
                        f"infinite values; mend the row, or set all of it to "
                        f"NaN if the item lacks this modality")
    return (x, ~missing) if missing.any() else (x, None)


def read_matrix(path: str) -> sp.coo_matrix:
    r"""Reads a pickled SciPy matrix of interactions, users by items, without
    trusting the pickle: only arrays are taken from it. Stored zeros are left
    out, other values become 1.

    Args:
        path (str): The file.

    Raises:
        DataError: If the file is missing, truncated, not such a pickle, or
            one that tries to run code.
    """
    check_exists(path)
    try:
        with open(path, 'rb') as f:
            matrix = load_matrix(f.read())
        row, col, value = matrix_entries(matrix)
        out = sp.coo_matrix(((value != 0).astype(np.float32), (row, col)),
                            shape=matrix.shape)
    except Exception as e:
        raise DataError(f"'{path}' is not read: {one_line(e)}; give a SciPy "
                        f"COO or CSR matrix pickled by protocol 2 or newer, "
                        f"or fetch the file again") from e
    out.eliminate_zeros()
    return out


def matrix_entries(matrix: PickledMatrix,
                   ) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Returns the rows, columns and values of what a pickled SciPy matrix
    of any format and SciPy version holds.
    """
    state = matrix.state
    if matrix.format == 'coo':
        row, col = state['coords'] if 'coords' in state else (state['row'],
                                                              state['col'])
    else:
        major = 0 if matrix.format == 'csr' else 1
        indptr, minor = state['indptr'], state['indices']
        if indptr.size != matrix.shape[major] + 1 or indptr[0] != 0:
            raise ValueError("its 'indptr' is damaged")
        count = np.diff(indptr)
        if count.min(initial=0) < 0 or count.sum() != minor.size:
            raise ValueError("its 'indptr' is damaged")
        index = np.repeat(np.arange(count.size), count)
        row, col = (index, minor) if major == 0 else (minor, index)
    if row.dtype.kind not in 'iu' or col.dtype.kind not in 'iu':
        raise ValueError('its indices are no integers')
    return row, col, state['data']


def check_exists(path: str) -> None:
    r"""Checks that :obj:`path` is a file.

    Raises:
        DataError: If it is not.
    """
    if not osp.isfile(path):
        raise DataError(f"The file '{path}' does not exist; check the folder "
                        f"that was given")


def one_line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rstrip('.')[:200]
