"""Compiles native/ while the package is built; where that is impossible it is built without."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
# The build module uses the standard library only; the package is not installed yet.
sys.path.insert(0, str(ROOT / "src"))

from trunkline.libnative.build import (  # noqa: E402
    LIBRARY,
    SPEEDUPS,
    BuildFailed,
    NoCompiler,
    build,
    build_speedups,
    find_compiler,
    find_headers,
)


class NativeBuild(BuildHookInterface[Any]):
    """Adds the shared objects to wheels and to editable installs: the engine and, where Python has
    its headers, the speedups.

    TRUNKLINE_NATIVE=skip leaves them out, =require makes a build without them fail, and fetches the
    package ziglang where there is no compiler.
    """

    def dependencies(self) -> list[str]:
        """What has to be installed for the build besides hatchling."""
        if self.target_name != "wheel" or os.environ.get("TRUNKLINE_NATIVE") != "require":
            return []
        try:
            find_compiler()
        except NoCompiler:
            return ["ziglang"]
        return []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and mark the wheel as one for this platform."""
        wish = os.environ.get("TRUNKLINE_NATIVE", "")
        if self.target_name != "wheel" or wish == "skip":
            return
        headers = find_headers()
        try:
            build(say=self.app.display_info)
            if headers is not None:
                build_speedups(headers=headers, say=self.app.display_info)
        except (BuildFailed, OSError) as error:
            if wish == "require":
                raise
            self.app.display_warning(
                f"nothing native in this build, ggml and Python are used: {error}"
            )
            return
        if headers is None:
            self.app.display_warning("no speedups in this build: there is no Python.h")
        if version == "editable":
            return
        build_data["artifacts"].append(f"/src/trunkline/libnative/{LIBRARY.name}")
        # The engine is loaded through ctypes, the speedups use the limited API alone: one file each
        # for every Python, but for one platform alone.
        python = "py3-none"
        if headers is not None:
            build_data["artifacts"].append(f"/src/trunkline/core/{SPEEDUPS.name}")
            python = "cp311-abi3"
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"{python}-{os.environ.get('TRUNKLINE_WHEEL_PLATFORM', platform)}"
        build_data["pure_python"] = False
