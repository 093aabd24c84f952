"""Builds rbjax; what pyproject.toml cannot say: the configs travel inside the package."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithConfigs(build_py):
    """Copies configs/*.py to rbjax/configs; an editable installation reads them where they are."""

    def run(self) -> None:
        """Builds the package, then adds the configs."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "rbjax" / "configs"
        self.mkpath(str(target))
        for file in sorted(Path("configs").glob("[!_]*.py")):
            self.copy_file(str(file), str(target / file.name))


setup(cmdclass={"build_py": WithConfigs})
