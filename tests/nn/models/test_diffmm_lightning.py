r"""DiffMM in a plain LightningModule, fed by PyG's loaders."""
import pytest
import torch
from test_diffmm_sampling import ALL, Problem, needs_sampler

from diffmm_pyg.nn.models.diffmm_graphs import SampledGraph
from diffmm_pyg.transforms import sampling_graph
from diffmm_pyg.typing import INTERACTS

lightning = pytest.importorskip('lightning.pytorch')
pytestmark = [needs_sampler,
              pytest.mark.filterwarnings("ignore:.*without a 'pyg-lib'")]

from torch_geometric.data.lightning import LightningLinkData  # noqa: E402


def test_lightning_module():
    class Module(lightning.LightningModule):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def training_step(self, batch):
            return self.model.batch_loss(batch)['loss']

        def configure_optimizers(self):
            return torch.optim.Adam(self.model.parameters())

    problem = Problem()
    data = LightningLinkData(sampling_graph(problem.data),
                             input_train_edges=INTERACTS,
                             neg_sampling='triplet', num_neighbors=ALL,
                             batch_size=50)
    before = problem.loss(SampledGraph)['bpr']
    lightning.Trainer(max_epochs=3, accelerator='cpu', logger=False,
                      enable_checkpointing=False,
                      enable_progress_bar=False).fit(Module(problem.model),
                                                     data)
    assert problem.loss(SampledGraph)['bpr'] < before
