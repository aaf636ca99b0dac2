"""Products of tiles: by the processor's units where it has them, or else, for tests alone, by loops in their place.

``LFM_DEPLOY_AMX=emulated`` takes the loops on any machine.
"""

import os

from lfm_deploy.machine import has_amx

EMULATED = os.environ.get("LFM_DEPLOY_AMX") == "emulated" or not has_amx()
"""Whether loops stand in the place of the units."""

if EMULATED:
    from engines.amx.emulation import (
        configure,
        multiply_three_rows,
        multiply_two_rows,
        multiply_windows,
        release,
        subtract_pixels,
    )
else:
    from engines.amx.units import (
        configure,
        multiply_three_rows,
        multiply_two_rows,
        multiply_windows,
        release,
        subtract_pixels,
    )

__all__ = [
    "EMULATED",
    "configure",
    "multiply_three_rows",
    "multiply_two_rows",
    "multiply_windows",
    "release",
    "subtract_pixels",
]
