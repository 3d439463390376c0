import pytest
import torch
from small import small_data

from diffmm_pyg.errors import ConfigError
from diffmm_pyg.nn.models.popularity import Popularity
from diffmm_pyg.typing import INTERACTS


def test_counts():
    data = small_data()[0]
    # A repeated interaction counts once.
    edge_index = torch.tensor([[0, 0, 1, 2, 2], [3, 3, 3, 3, 1]])
    data[INTERACTS].edge_index = edge_index
    model = Popularity(60, 40)
    assert str(model) == 'Popularity(60, 40)'
    user, item = model.embed(data)
    assert user.tolist() == [[1.]] * 60
    expected = torch.zeros(40, 1)
    expected[3], expected[1] = 3., 1.
    assert item.equal(expected)
    assert model.phases(data) == []
    assert model.recommend([0, 5], k=1, data=data).item == [[1], [3]]


def test_data_of_another_size():
    data = small_data()[0]
    for sizes, what in [((61, 40), 'has 60 users, .* for 61'),
                        ((60, 41), 'has 40 items, .* for 41')]:
        with pytest.raises(ConfigError, match=what):
            Popularity(*sizes).embed(data)
    with pytest.raises(ValueError, match="'num_items' must lie in"):
        Popularity(60, 0)
