import pytest
import torch
from small import small_data

from diffmm_pyg import build_model
from diffmm_pyg.errors import ConfigError, DataError


@pytest.mark.parametrize('args', [{'model': {'hidden': 3}},
                                  {'diffusion': {'hidden': 3}}], ids=str)
def test_hyper_parameters_that_do_not_exist(args):
    with pytest.raises(ConfigError, match="no hyper-parameter 'hidden'; it "
                       "has .*'hidden_channels'"):
        build_model(small_data()[0], **args)


def test_graphs_of_something_else():
    data = small_data()[0]
    del data['item'].x_image, data['item'].x_text
    data['item'].x = torch.ones(40, 3)
    with pytest.raises(DataError, match="data\\['item'\\].x_<modality>"):
        build_model(data)
