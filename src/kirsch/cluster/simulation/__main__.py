"""python -m kirsch.cluster.simulation"""

import sys

from kirsch.cluster.simulation.command import main

sys.exit(main())
