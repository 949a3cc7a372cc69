"""One process: plugins for CherryPy's engine (`pip install kirsch[web]`)."""
