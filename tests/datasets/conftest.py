import pickle

import numpy as np
import pytest
import scipy.sparse as sp


@pytest.fixture
def source(tmp_path):
    r"""A folder with files named and shaped like those of TikTok: four users
    and three items, of which user 3 is only tested.
    """
    folder = tmp_path / 'source' / 'tiktok'
    folder.mkdir(parents=True)
    for name, (row, col) in {
            'trnMat.pkl': ([0, 0, 1, 2], [0, 1, 1, 2]),
            'valMat.pkl': ([0, 1], [2, 0]),
            'tstMat.pkl': ([2, 3], [0, 1]),
    }.items():
        matrix = sp.coo_matrix((np.ones(len(row)), (row, col)), (4, 3))
        (folder / name).write_bytes(pickle.dumps(matrix))
    for name, num_channels in [('image', 4), ('text', 2), ('audio', 3)]:
        x = np.arange(3 * num_channels).reshape(3, -1)
        np.save(folder / f'{name}_feat.npy', x.astype(np.float16))
    return folder.parent
