"""`python -m kirsch.cluster.balancer` is `kirsch balancer`."""

import sys

from kirsch.cluster.balancer.command import main

sys.exit(main())
