"""How setuptools builds the wheel: the mapping files of the project's folder `rigs` become data of `cmet_blender`.

Named in pyproject.toml (`tool.setuptools.cmdclass`). The folder stands beside the package in a checkout and inside it
where the package is installed; `mapping.rigs_folder` finds both.
"""

from pathlib import Path

from setuptools.command.build_py import build_py

RIGS = ("*.json", "reference_motion.npz", "demo_head.blend")
"""Files of `rigs` that the package reads, as patterns."""


class BuildWithRigs(build_py):
    """Copies the mapping files into `cmet_blender/rigs` of what is built; an editable install leaves them where they are."""

    def _rigs(self) -> dict[str, str]:
        """Source of each mapping file by its place in what is built."""
        target = Path(self.build_lib) / "cmet_blender" / "rigs"
        sources = [path for pattern in RIGS for path in sorted(Path("rigs").glob(pattern))]
        return {str(target / source.name): str(source) for source in sources}

    def run(self) -> None:
        """Build the packages, then add the mapping files."""
        super().run()
        if not self.editable_mode:
            for target, source in self._rigs().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target, preserve_mode=False)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Everything that is built, the mapping files included."""
        own = [] if self.editable_mode else list(self._rigs())
        return [*super().get_outputs(include_bytecode), *own]

    def get_source_files(self) -> list[str]:
        """Everything that a source distribution needs, the mapping files included."""
        return [*super().get_source_files(), *self._rigs().values()]
