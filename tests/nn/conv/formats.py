r"""The sparse formats of a weighted graph, as transposed matrices."""
import pytest
import torch

from diffmm_pyg.typing import WITH_TORCH_SPARSE, SparseTensor


def sparse_tensor(edge_index, weight, size):
    if not WITH_TORCH_SPARSE:
        pytest.skip("'torch-sparse' is not installed")
    return SparseTensor(row=edge_index[1], col=edge_index[0], value=weight,
                        sparse_sizes=size[::-1])


def torch_sparse(layout):
    def make(edge_index, weight, size):
        adj_t = torch.sparse_coo_tensor(edge_index.flip([0]), weight,
                                        size[::-1]).coalesce()
        return adj_t.to_sparse(layout=layout)

    return make


FORMATS = {
    'SparseTensor': sparse_tensor,
    'CSR': torch_sparse(torch.sparse_csr),
    'COO': torch_sparse(torch.sparse_coo),
}
