"""`python -m hack.cluster`: build, start, fill and remove the local Kubernetes node."""

import sys

from hack.cluster.cli import main

sys.exit(main())
