"""Functions for compiled code that stand for instructions of the processor."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types


def make_instruction(
    emitter: Callable[[Any, np.dtype[Any] | None], Any], write: Callable[..., None], *arguments: Any
) -> tuple[Any, Callable[..., Any]]:
    """What an intrinsic of Numba gives: its types, and what writes its instructions.

    Args:
        emitter: class of the object that writes them, out of LLVM's builder and the dtype of the maps.
        write: function that is given that object and the arguments.
        arguments: Numba's types of the arguments. An unsigned number of 8 or 16 bits as the first is not read: its type
            is that of the maps. All others are addresses or numbers, int64.
    """
    typed = bool(arguments) and arguments[0] in (types.uint8, types.uint16)
    dtype = np.dtype(str(arguments[0])) if typed else None
    numbers = [types.int64] * (len(arguments) - typed)

    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        write(emitter(builder, dtype), *values[len(values) - len(numbers) :])
        return context.get_dummy_value()

    return types.void(*arguments[: len(arguments) - len(numbers)], *numbers), generate
