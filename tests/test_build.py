import pytest
import torch
from small import small_data

from diffmm_pyg import build_model
from diffmm_pyg.errors import ConfigError, DataError


@pytest.mark.parametrize('name', ['hidden', 'num_items'])
@pytest.mark.parametrize('part', ['model', 'diffusion'])
def test_hyper_parameters_that_do_not_exist(part, name):
    with pytest.raises(ConfigError, match=f"no hyper-parameter '{name}'; it "
                       "has .*'hidden_channels'"):
        build_model(small_data()[0], **{part: {name: 3}})


def test_graphs_of_something_else():
    data = small_data()[0]
    del data['item'].x_image, data['item'].x_text
    data['item'].x = torch.ones(40, 3)
    with pytest.raises(DataError, match="data\\['item'\\].x_<modality>"):
        build_model(data)
