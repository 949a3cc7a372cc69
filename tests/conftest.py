"""What holds for every test."""

import gc


def pytest_collection_finish():
    """Have the garbage collector, which many tests call, pass over what is there for all of them."""
    gc.collect()
    gc.freeze()
