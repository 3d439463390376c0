r"""Datasets: from raw files, arrays or a seed to a training, a validation and
a test :class:`~torch_geometric.data.HeteroData`.
"""
from diffmm_pyg.datasets.fake import FakeMultiModalRec, checkerboard
from diffmm_pyg.datasets.from_arrays import hetero_data_from_arrays
from diffmm_pyg.datasets.from_folder import hetero_data_from_folder
from diffmm_pyg.datasets.from_pyg import hetero_data_from_pyg
from diffmm_pyg.datasets.from_tables import hetero_data_from_tables
from diffmm_pyg.datasets.ids import node_ids
from diffmm_pyg.datasets.multimodal_rec import MultiModalRec
from diffmm_pyg.datasets.raw import read_matrix
from diffmm_pyg.datasets.split import split_edges

__all__ = [
    'MultiModalRec',
    'FakeMultiModalRec',
    'checkerboard',
    'hetero_data_from_arrays',
    'hetero_data_from_folder',
    'hetero_data_from_pyg',
    'hetero_data_from_tables',
    'read_matrix',
    'split_edges',
    'node_ids',
]
