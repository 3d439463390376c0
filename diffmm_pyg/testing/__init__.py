from diffmm_pyg.testing import textbook

__all__ = ['textbook']
