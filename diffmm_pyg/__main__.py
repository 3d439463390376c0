import sys

from diffmm_pyg.cli import main

sys.exit(main())
