"""An application onto a cluster: its images built and sent, its units submitted: a plan, and doing it."""
