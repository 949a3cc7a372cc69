"""Run kirschd as `python -m kirsch.cluster.daemon`."""

import sys

from kirsch.cluster.daemon.command import main

sys.exit(main())
