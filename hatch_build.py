"""What the build of the package does beside packing: compile the native engine, where there is a compiler."""

import runpy
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeEngineHook(BuildHookInterface):
    """Build `zoo/kernels/native/lib/lstm.so`; without a compiler go on without it and leave a note that says why."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        # By its path: the package itself cannot be imported where it is built, since Keras is not there.
        builder = runpy.run_path(str(Path(self.root, "zoo", "kernels", "native", "build.py")))
        reason = builder["build_or_note"]()
        if reason:
            self.app.display_warning(f"the native engine was not built: {reason}")
        else:
            # The library knows nothing of Python's or TensorFlow's binary interface, so one wheel serves every version.
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
            build_data["pure_python"] = False
