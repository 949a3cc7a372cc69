"""images/node: a machine's image that people may add to says what kirsch's own recipe says, and machines
begin with it."""

import shutil
from pathlib import Path

import pytest
from tests.machines.computer import Computer

from kirsch.cluster.image.containerfile import Containerfile
from kirsch.cluster.provision import recipe

NODE = Path(__file__).parents[2] / "images" / "node"


def test_the_containerfile_says_what_the_recipe_says():
    file = Containerfile.parse((NODE / "Containerfile").read_text())
    assert file.packages == recipe.PACKAGES
    assert tuple(file.arguments["MASKED"].split()) == recipe.MASKED
    assert file.arguments["BASE"] == recipe.REFERENCE
    files = {file.path: file.content for file in recipe.FILES if not file.target}
    assert files == {
        f"/{path.relative_to(NODE)}": path.read_bytes() for path in NODE.rglob("*.conf") if path.is_file()
    }


@pytest.mark.machines
@pytest.mark.soak
def test_machines_begin_with_an_image_of_ones_own(tmp_path):
    computer = Computer(tmp_path, "tests-node")
    name = "kirsch/tests-node"
    try:
        folder = tmp_path / "node"
        shutil.copytree(NODE, folder)
        (folder / "etc/motd").write_text("a machine with more in it\n")
        built = computer.kirsch("image", "build", folder, "-t", name)
        assert built.returncode == 0, built.stderr
        cluster = computer.create("own", "--image", name)
        said = computer.kirsch("--cluster", cluster, "ssh", "n1", "cat", "/etc/motd")
        assert said.stdout == "a machine with more in it\n"
        status = computer.kirsch("cluster", "status", cluster)
        assert status.returncode == 0, status.stdout
    finally:
        computer.close()
        computer.kirsch("image", "rm", "--force", name)


@pytest.mark.machines
@pytest.mark.soak
@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("kirsch/nobody-made-this", "there is no image localhost/kirsch/nobody-made-this:latest here"),
        ("Not A Name", "cannot be an image's name"),
    ],
)
def test_an_image_that_is_none_is_refused(tmp_path, image, why):
    computer = Computer(tmp_path, "tests-node")
    done = computer.kirsch("cluster", "create", computer.name("none"), "--image", image)
    assert done.returncode == 1
    assert why in done.stderr
    assert not list(computer.data.rglob("*"))
