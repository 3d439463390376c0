r"""What threads do in an order of their own must not be seen in a result."""
import pytest
import torch

from diffmm_pyg.data import modality_features
from diffmm_pyg.datasets import FakeMultiModalRec
from diffmm_pyg.nn.models import MODELS
from torch_geometric import seed_everything

SIZES = {'DiffMM': {'diffusion': {'hidden_channels': 64}},
         'DiffRec': {'diffusion': {'hidden_channels': 64}},
         **dict.fromkeys(['BM3', 'BPRMF', 'FREEDOM', 'LightGCN', 'MultDAE',
                          'NGCF', 'VBPR'], {})}


@pytest.fixture
def two_threads():
    number = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(number)


@pytest.mark.parametrize('name', [*SIZES])
def test_gradients_are_the_same_on_two_threads(name, two_threads):
    # Many edges of few items, for sums of many gradients.
    data = FakeMultiModalRec(400, 30)[0]
    seed_everything(0)
    model = MODELS[name].from_sizes(
        400, 30, {m: x.size(1) for m, x in modality_features(data).items()},
        **SIZES[name]).train()
    for number, phase in enumerate(model.phases(data)):
        key = (0, 0, number)
        if phase.begin is not None:
            phase.begin(key)
        # That torch adds up in parallel, it is to be a large batch.
        index = torch.arange(1024) % phase.num_examples
        grads = [torch.autograd.grad(
            phase.loss(index, 1024, (*key, 0))['loss'], phase.parameters,
            materialize_grads=True, allow_unused=True) for _ in range(5)]
        for other in grads[1:]:
            for a, b in zip(grads[0], other, strict=True):
                assert a.equal(b)
