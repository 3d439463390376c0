
import pytest
import torch

from diffmm_pyg.data import modalities
from diffmm_pyg.datasets import MultiModalRec
from diffmm_pyg.typing import INTERACTS


@pytest.mark.filterwarnings('ignore:5 of the .* have no training edge')
@pytest.mark.filterwarnings('error:.*differs from the published file')
def test_tiktok(tiktok, tmp_path):
    dataset = MultiModalRec(str(tmp_path), 'tiktok', tiktok,
                            modalities=['image', 'audio'])
    train, val, test = dataset
    assert train['user'].num_nodes == 9308
    assert train['item'].num_nodes == 6710
    assert modalities(train) == ['image', 'audio']

    sizes = [data[INTERACTS].edge_label_index.size(1) for data in dataset]
    assert sizes == [59541, 3051, 6130]
    user, item = train[INTERACTS].edge_index
    assert user.unique().numel() == 9308 - 10
    assert item.unique().numel() == 6710 - 465
    cold = ~torch.isin(test[INTERACTS].edge_label_index[1], item)
    assert int(cold.sum()) == 449
    users = torch.cat([d[INTERACTS].edge_label_index[0] for d in [val, test]])
    assert users.unique().numel() == 3051 + 6130

    # The sums of squares overflow in half precision.
    for x, norm in [(train['item'].x_image, 33), (train['item'].x_audio, 5)]:
        assert x.size() == (6710, 128) and x.dtype == torch.float
        assert abs(float(x.norm(dim=1).mean()) - norm) < 1
