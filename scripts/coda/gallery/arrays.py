"""Arrays in NumPy's own format: read if they hold what their header claims."""

import io
import math

import numpy as np


def read_npy(content: bytes) -> np.ndarray:
    """Give the array in the content of an ``.npy`` file, from which nothing is unpickled.

    Raises
    ------
    ValueError
        If it is none, or claims another size than it has: NumPy would set aside as much memory as is claimed.
    """
    try:
        stream = io.BytesIO(content)
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, kind = read_header(stream)
        if math.prod(shape) * kind.itemsize != len(content) - stream.tell():
            raise ValueError(
                f"its header claims an array {shape} of {kind}, which it does not hold"
            )
        return np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # of many unrelated types, those of Python's parser among them
        raise ValueError(str(error)) from error
