import numpy as np
import pytest
import scipy.sparse as sp
import torch

from diffmm_pyg.datasets.item_features import read_item_features

IMAGE = np.array([[1., 0.], [3., 4.], [0., 6.]])


@pytest.mark.parametrize('convert', [
    torch.from_numpy,
    lambda x: torch.from_numpy(x).bfloat16(),
    lambda x: torch.from_numpy(x).to_sparse(),
    lambda x: x.astype(np.uint8),
    sp.csr_matrix,
    sp.coo_array,
])
def test_features_of_every_kind(convert):
    rows = read_item_features({'image': convert(IMAGE)})['image']
    assert rows.ids == ['0', '1', '2'] and rows.mask is None
    assert rows.x.dtype == torch.float
    assert rows.x.tolist() == IMAGE.tolist()
