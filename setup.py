"""Put images/, from which an installed kirsch builds its base images, into the wheel.

All else stands in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithImages(build_py):
    """Copy the folders of base images beside the modules."""

    def run(self) -> None:
        super().run()
        for folder in sorted(Path("images").glob("*/")):
            if not self.editable_mode and (folder / "Containerfile").is_file():
                shutil.copytree(folder, Path(self.build_lib, "kirsch", folder), dirs_exist_ok=True)


setup(cmdclass={"build_py": WithImages})
