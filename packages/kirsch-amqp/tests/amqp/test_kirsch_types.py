"""kirsch.js's declarations, by npm's TypeScript: they are the script's, and catch what is misspelt."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kirsch.amqp.javascript import SCRIPT, script

pytestmark = [pytest.mark.services, pytest.mark.slow]

STATIC = Path(str(SCRIPT)).parent
PACKAGE = Path(__file__).parents[2]
MODULES = PACKAGE.parents[1] / "build" / "typescript"
DOCS = (PACKAGE / "docs" / "javascript.md").read_text()
BEGIN = 'import { KirschClient, KirschError } from "kirsch";\n'
# Functions of the page in the documentation's examples.
PAGE = "".join(
    f"declare const {name}: (...shown: unknown[]) => void;\n"
    for name in ("show", "showError", "showMembers", "showState")
)


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """Returns what `tsc --strict` complains of in a module that imports kirsch."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    tsc = MODULES / "node_modules" / ".bin" / "tsc"
    if not tsc.exists():
        MODULES.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", MODULES, "typescript@5"]
        done = subprocess.run(install, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    folder = tmp_path_factory.mktemp("typescript")
    (folder / "package.json").write_text('{"type": "module"}')
    shutil.copytree(STATIC, folder / "node_modules" / "kirsch")

    def complaints(*texts):
        files = []
        for number, text in enumerate(texts):
            files.append(folder / f"page{number}.ts")
            files[-1].write_text(BEGIN + PAGE + text + "\nexport {};\n")
        options = ["--strict", "--noEmit", "--target", "es2022", "--module", "nodenext"]
        done = subprocess.run(
            [tsc, *options, *(file.name for file in files)], cwd=folder, capture_output=True, text=True
        )
        return [
            re.findall(rf"page{number}\.ts\S+ error (TS\d+)", done.stdout) for number in range(len(texts))
        ]

    return complaints


RIGHT = """
const client = new KirschClient("/ws", { name: "Ada", token: async () => "t" });
const room = client.join("!plans", { last: 50, presence: false, ticket: async (name) => name });
const stop: () => void = room.on("message", ({ name, data, own }) => show(name, data, own));
room.on("left", ({ reason }) => show(reason.length));
client.on("state", ({ state, retry }) => show(state === "waiting" ? retry : state));
for (const [user, { name, clients }] of room.people) show(user, name, clients.length);
const { messages, more } = await room.history(20);
room.send({ text: "hello" }).catch((error: KirschError) => show(error.code, messages, more));
stop();
"""
WRONG = [
    'new KirschClient("/ws", { nmae: "Ada" });',
    'new KirschClient("/ws").join("lobby", { lats: 50 });',
    'new KirschClient("/ws").join("lobby").on("mesage", () => {});',
    'new KirschClient("/ws").on("state", ({ stat }) => show(stat));',
    'new KirschClient("/ws").join("lobby").on("message", ({ data }) => show(data.text));',
    "new KirschClient();",
]


def test_what_is_right_passes_and_what_is_misspelt_does_not(check):
    # The page's first example, as it stands.
    shown = re.search(r'^```js\nimport .*? from "/kirsch.js";\n(.*?)^```', DOCS, re.MULTILINE | re.DOTALL)
    right, example, *wrong = check(RIGHT, shown[1], *WRONG)
    assert right == example == []
    assert all(wrong), wrong


def test_the_declarations_are_the_scripts():
    declared = (STATIC / "kirsch.d.ts").read_text()
    source = script().decode()
    for name in re.findall(r"^export class (\w+)", declared, re.MULTILINE):
        assert f"export class {name} " in source
    rooms = declared[declared.index("class Room") :]
    members = re.findall(r"^  (?:readonly )?(\w+)[(:<]", rooms, re.MULTILINE)
    assert len(members) > 20
    for name in members:
        assert re.search(rf"\b(this\.{name} =|{name}\(|get {name}\()", source), name
    for name in re.findall(r'emit\("(\w+)"', source):
        assert f"  {name}: " in declared, name
    package = json.loads((STATIC / "package.json").read_text())
    assert all((STATIC / name).exists() for name in package["files"])
    # The size that the documentation states, in kilobytes.
    assert f"{round(len(script()) / 1024)} KB" in DOCS
