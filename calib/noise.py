"""How much noise INT8 adds in front of each layer, as a signal-to-noise ratio."""

from collections.abc import Sequence

import numpy as np

from calib.activations import ActivationReader
from calib.pictures import PictureStore
from export.names import find_convolutions, input_name
from export.precision import PreparedGraph, make_int8_graph
from export.splitting import join_parts


def measure_snr(
    prepared: PreparedGraph, layers_in_int8: Sequence[str], store: PictureStore, indices: Sequence[int]
) -> dict[str, float]:
    """Signal-to-noise ratio in dB of what each layer reads, with everything in front of it quantised.

    Args:
        prepared: graph from ``prepare_int8``.
        layers_in_int8: names of the convolutions that are.
        store: calibration pictures.
        indices: positions in the store of the pictures to measure on.

    Returns:
        By layer; infinite where not one value changes.
    """
    exact, quantised = prepared.model, make_int8_graph(prepared, layers_in_int8)
    layers = [node.name for node in find_convolutions(exact)]
    made = {name for node in quantised.graph.node for name in node.output}
    restored = [f"{input_name(layer)}_DequantizeLinear_Output" for layer in layers]
    read = [name if name in made else input_name(layer) for name, layer in zip(restored, layers, strict=True)]
    exact_reader = ActivationReader(exact, [input_name(layer) for layer in layers])
    reader = ActivationReader(quantised, read)
    signal, noise = np.zeros(len(layers)), np.zeros(len(layers))
    for images in store.batches(indices):
        pairs = zip(exact_reader.read(images).values(), reader.read(images).values(), strict=True)
        for index, (expected, found) in enumerate(pairs):
            signal[index] += float(np.square(expected, dtype=np.float64).sum())
            parts = prepared.config.parts.get(input_name(layers[index]))
            joined = found if parts is None or found.shape[1] == len(parts) else join_parts(found, parts)
            noise[index] += float(np.square(joined - expected, dtype=np.float64).sum())
    with np.errstate(divide="ignore"):
        return {layer: float(ratio) for layer, ratio in zip(layers, 10 * np.log10(signal / noise), strict=True)}
