"""What `kirsch up --on` would do, and what it makes of unit files."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.application import Application, ApplicationError, Source, fitting, load
from kirsch.cluster.application.build import recipes
from kirsch.cluster.application.pin import named, pinned
from kirsch.cluster.application.plan import (
    Destroy,
    Image,
    Known,
    MakeAccount,
    MakeSecret,
    Now,
    Push,
    Start,
    Submit,
    digest,
    known_units,
    plan,
    secrets_of,
)
from kirsch.cluster.application.target import meanwhile, standing, waves
from kirsch.cluster.image.reference import ImageError, Reference
from kirsch.cluster.provision.record import published
from kirsch.unit import UnitFile

REGISTRY = "10.0.0.1:5000"
DB = "[Container]\nImage=localhost/postgres\n[X-Kirsch]\nSecret=db:PASSWORD\n"
WEB = "[Container]\n# it is built\nImage = localhost/web:1.0 \nExec=x\n[X-Kirsch]\nSecret=db:P\nLink=db\n"
IMAGES = {
    Reference.parse("localhost/postgres"): Image(Reference.parse("postgres"), "k-0123456789ab", True),
    Reference.parse("localhost/web:1.0"): Image(Reference.parse("web:1.0"), "k-aaaaaaaaaaaa"),
}
APPLICATION = Application(
    "shop",
    Path("shop"),
    {"db.container": DB, "web@.container": WEB},
    {"db.container": "shop/units/db.container", "web@.container": "shop/units/web@.container"},
    ("db.container", "web@1.container"),
)
PINNED_DB = DB.replace("localhost/postgres", f"{REGISTRY}/postgres:k-0123456789ab")
PINNED_WEB = WEB.replace("localhost/web:1.0", f"{REGISTRY}/web:k-aaaaaaaaaaaa")


def now(units: dict[str, Known], **rest) -> Now:
    return Now(REGISTRY, units, **rest)


class TestPlan:
    def test_all_of_it_is_new(self):
        made = plan(APPLICATION, IMAGES, now({}))
        image = IMAGES[Reference.parse("web:1.0")]
        assert made.steps == (
            Push(image, Reference.parse(f"{REGISTRY}/web:k-aaaaaaaaaaaa")),
            MakeSecret("db"),
            Submit("db.container", new=True),
            Submit("web@.container", new=True),
            Submit("web@1.container", new=True),
            Start("db.container"),
            Start("web@1.container"),
        )
        assert made.units["web@1.container"] == PINNED_WEB

    def running(self) -> dict[str, Known]:
        return {
            "db.container": Known(digest(PINNED_DB), "launched"),
            "web@.container": Known(digest(PINNED_WEB), "inactive"),
            "web@1.container": Known(digest(PINNED_WEB), "launched"),
            "others.container": Known("f" * 64, "launched"),
        }

    def test_nothing_is_touched_where_nothing_changed(self):
        there = {name: replace(image, there=True) for name, image in IMAGES.items()}
        former = frozenset({"db.container", "web@.container", "web@1.container"})
        made = plan(APPLICATION, there, now(self.running(), former=former, secrets=frozenset({"db"})))
        assert made.steps == ()
        assert made.touched == []

    def test_a_changed_image_starts_those_anew_that_have_it(self):
        changed = IMAGES | {
            Reference.parse("localhost/web:1.0"): Image(Reference.parse("web:1.0"), "k-bbbbbbbbbbbb")
        }
        made = plan(APPLICATION, changed, now(self.running(), secrets=frozenset({"db"})))
        assert made.touched == ["web@.container", "web@1.container"]
        assert Submit("web@1.container", new=False, runs=True) in made.steps
        assert [str(step) for step in made.steps] == [
            "push     web, as 10.0.0.1:5000/web:k-bbbbbbbbbbbb",
            "change   web@.container",
            "change   web@1.container, which starts anew",
        ]

    def test_only_what_came_with_the_application_goes_with_it(self):
        units = self.running() | {"web@2.container": Known(digest(PINNED_WEB), "launched")}
        former = frozenset({"web@2.container", "gone-already.container"})
        made = plan(APPLICATION, IMAGES, now(units, former=former, secrets=frozenset({"db"})))
        assert [step for step in made.steps if isinstance(step, Destroy)] == [Destroy("web@2.container")]

    def test_one_that_was_stopped_is_started(self):
        units = self.running() | {"web@1.container": Known(digest(PINNED_WEB), "inactive")}
        made = plan(APPLICATION, {}, now(units, secrets=frozenset({"db"})))
        assert Start("web@1.container") in made.steps

    def test_one_that_has_failed_is_started_again_and_said_to_be(self):
        line = {"name": "db.container", "hash": digest(PINNED_DB), "desired": "launched"}
        for active, settled, finished, steps in (
            ("failed", True, False, ["start    db.container, which has failed, again"]),
            # It is on its way; it has run to its end.
            ("failed", False, False, []),
            ("activating", True, False, []),
            ("inactive", True, True, []),
        ):
            state = {"active": active, "settled": settled, "finished": finished}
            serves = {"active": "active", "settled": True, "finished": False}
            known = known_units([line | serves, line | state, line | serves])
            made = plan(APPLICATION, IMAGES, now(self.running() | known, secrets=frozenset({"db"})))
            steps_of_db = [str(step) for step in made.steps if "db.container" in str(step)]
            assert steps_of_db == steps

    def test_one_that_has_failed_and_changes_is_started_by_that(self):
        units = self.running() | {"db.container": Known("f" * 64, "launched", failed=True)}
        made = plan(APPLICATION, IMAGES, now(units, secrets=frozenset({"db"})))
        assert [str(step) for step in made.steps if "db.container" in str(step)] == [
            "change   db.container, which starts anew"
        ]

    def test_a_secret_is_named_once(self):
        assert list(secrets_of(APPLICATION.units)) == ["db"]

    def test_a_database_is_given_its_account(self):
        units = {"db@.container": f"{DB}Secret=members:MEMBERS db-etcd:POSTGRES_ETCD\n"}
        shop = replace(APPLICATION, units=units, start=("db@1.container", "db@2.container"))
        made = plan(shop, IMAGES, now({}, secrets=frozenset({"db"})))
        assert [made.secrets, made.accounts] == [["members"], [MakeAccount("db-etcd", "db")]]
        again = plan(shop, IMAGES, now({}, secrets=frozenset({"db", "db-etcd"})))
        assert again.accounts == []

    def test_a_hash_is_a_unit_file_s(self):
        assert digest(WEB) == UnitFile.parse(WEB).hash


class TestReplicas:
    """One instance, or several where a cluster has as many machines."""

    START = '[cluster]\nunits = "more"\n[cluster.replicas]\ndb = {replicas}\n'

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "units").mkdir()
        (tmp_path / "more/db@2.service.d").mkdir(parents=True)
        for path in ("units/db.service", "units/web.service", "more/db@.service"):
            (tmp_path / path).write_text("[Service]\nExecStart=x\n")
        (tmp_path / "more/db@2.service.d/own.conf").write_text("[Service]\nEnvironment=A=2\n")
        settings = 'start = ["db", "web"]\n' + self.START.format(replicas='["db@1", "db@2"]')
        (tmp_path / "kirsch.toml").write_text(settings)
        return tmp_path

    def test_there_are_several_where_there_are_as_many_machines(self, folder: Path):
        application = load(folder, cluster=True)
        assert (application.start, application.units.keys(), application.files.keys()) == (
            ("db.service", "web.service"),
            {"db.service", "web.service"},
            {"db.service", "web.service"},
        )
        assert fitting(application, 1, {"web.service"}) is application
        several = fitting(application, 2, {"web.service"})
        assert several.start == ("db@1.service", "db@2.service", "web.service")
        assert several.units.keys() == {"db@.service", "db@2.service", "web.service"}
        assert load(folder).replicated is None, "a computer is one machine"

    def test_what_is_there_stays_as_it_is(self, folder: Path):
        application = load(folder, cluster=True)
        assert fitting(application, 3, {"db.service"}) is application
        assert fitting(application, 1, {"db@2.service"}) is application.replicated

    @pytest.mark.parametrize(
        ("replicas", "message"),
        [
            ('"db@1"', r'replicas is to have lines as webdb = \["webdb@1", "webdb@2"\]'),
            ('["db@1"]', "replicas is to have lines as"),
            ('["db@1", "dc@2"]', "cluster.replicas: there is no unit dc@2"),
        ],
    )
    def test_what_is_wrong_is_a_line(self, folder: Path, replicas: str, message: str):
        (folder / "kirsch.toml").write_text(self.START.format(replicas=replicas))
        with pytest.raises(ApplicationError, match=message):
            load(folder, cluster=True)


class TestPin:
    @pytest.mark.parametrize(
        ("value", "known", "expected"),
        [
            ("localhost/web", (), "localhost/web:latest"),
            ("web", ("web",), "localhost/web:latest"),
            ("web:1", ("web",), "localhost/web:1"),
            ("web", (), None),
            ("docker.io/library/redis", ("redis",), None),
            ("web.image", ("web.image",), None),
            ("localhost/%p", (), None),
        ],
    )
    def test_images_of_this_computer(self, value, known, expected):
        found = named(f"[Container]\nImage={value}\n", known)
        assert [str(each) for each in found] == ([expected] if expected else [])

    def test_every_other_byte_stays(self):
        text = (
            "# Image=localhost/a\r\n[Container]\r\nImage=  localhost/a\r\n[Service]\r\nImage=localhost/a\r\n"
        )
        name = Reference.parse("localhost/a")
        assert pinned(text, {name: Reference.parse("r:5000/a:k-1")}) == text.replace(
            "=  localhost/a", "=  r:5000/a:k-1"
        )

    @given(
        st.text(
            alphabet=st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\x0b"), max_size=60
        )
    )
    def test_whatever_stands_before(self, comment):
        text = f"# {comment.rstrip(chr(92))}\n[Container]\nImage=localhost/x\n"
        name = Reference.parse("localhost/x")
        assert pinned(text, {name: name}) == text.replace("Image=localhost/x\n", "Image=localhost/x:latest\n")


class TestRecipes:
    def application(self, folder: Path, **files: str) -> Application:
        images = {}
        for name, text in files.items():
            (folder / name).mkdir()
            (folder / name / "Containerfile").write_text(text)
            images[name] = Source(folder / name)
        units = {f"{name}.container": f"[Container]\nImage=localhost/{name}\n" for name in files}
        return Application("x", folder, units, images=images)

    def test_what_an_image_begins_with_is_built_before(self, tmp_path):
        application = self.application(tmp_path, a="FROM localhost/b\n", b="FROM localhost/kirsch/web\n")
        assert [recipe.name.path for recipe in recipes(application)] == ["kirsch/web", "b", "a"]

    def test_a_circle_is_refused(self, tmp_path):
        application = self.application(tmp_path, a="FROM localhost/b\n", b="FROM localhost/a\n")
        with pytest.raises(ImageError, match="circle"):
            recipes(application)

    def test_a_folder_without_a_containerfile(self, tmp_path):
        application = self.application(tmp_path, a="FROM scratch\n")
        (tmp_path / "a/Containerfile").unlink()
        with pytest.raises(ImageError, match="has no Containerfile"):
            recipes(application)


class TestFolder:
    def folder(self, path: Path, settings: str = "") -> Path:
        (path / "units").mkdir()
        (path / "units/web@.container").write_text("[Container]\nImage=localhost/web\n")
        (path / "kirsch.toml").write_text('start = ["web@1"]\n' + settings)
        return path

    def test_images_of_kirsch_toml(self, tmp_path):
        settings = '[images.web]\nbuild = "src"\n[images."x/y"]\nbuild = "."\nfile = "Y.containerfile"\n'
        found = load(self.folder(tmp_path, settings)).images
        assert found == {
            "web": Source(tmp_path / "src"),
            "x/y": Source(tmp_path, tmp_path / "Y.containerfile"),
        }

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ("[images]\nweb = 1\n", "images.web is to have build"),
            ("[images.web]\n", "images.web is to have build"),
            ('[images.web]\nbuild = "."\nbase = "x"\n', "unknown key 'base'"),
            ('[images.web]\nbuild = "."\nfile = 1\n', "file is to be a text"),
        ],
    )
    def test_bad_images(self, tmp_path, settings, words):
        with pytest.raises(ApplicationError, match=words):
            load(self.folder(tmp_path, settings))

    @pytest.mark.parametrize("address", ["http://localhost:80910/", "http://localhost:web/", "http://[::1/"])
    def test_an_address_that_is_none(self, tmp_path, address):
        folder = self.folder(tmp_path)
        (folder / "kirsch.toml").write_text(f'open = "{address}"\nstart = ["web@1"]\n')
        with pytest.raises(ApplicationError, match=r"kirsch\.toml: open is to be an address as http"):
            load(folder)

    def test_drop_ins_stand_after_what_they_are_for(self, tmp_path):
        folder = self.folder(tmp_path)
        for name, text in {
            "web@.container.d/10-a.conf": "[Container]\nEnvironment=A=1\n",
            "web@1.container.d/5-b.conf": "[Container]\nEnvironment=B=2\n",
        }.items():
            path = folder / "units" / name
            path.parent.mkdir()
            path.write_text(text)
        found = load(folder)
        template, one = found.units["web@.container"], found.units["web@1.container"]
        assert [e.value for e in UnitFile.parse(template).entries("Container")] == ["localhost/web", "A=1"]
        assert one.startswith(template.rstrip())
        assert UnitFile.parse(one).entries("Container")[-1].value == "B=2"
        assert found.files["web@1.container"] == found.files["web@.container"]

    def test_a_drop_in_for_nothing(self, tmp_path):
        (self.folder(tmp_path) / "units/db.container.d").mkdir()
        with pytest.raises(ApplicationError, match=r"db\.container\.d: there is no unit db\.container"):
            load(tmp_path)


LINE = {
    "hash": "new", "active": "active", "sub": "running", "settled": True, "ready": True, "finished": False,
    "refused": False, "reasons": (),
}  # fmt: skip


class TestTarget:
    @pytest.mark.parametrize(
        ("address", "expected"),
        [
            ("http://localhost:8091/", "http://localhost:7070/"),
            ("http://localhost:8091/x?y=1", "http://localhost:7070/x?y=1"),
            ("http://localhost/", "http://192.0.2.1:8000/"),
            ("http://localhost:9999/", ""),
        ],
    )
    def test_where_a_person_opens_it(self, address, expected):
        assert published(address, ("127.0.0.1:7070:8091", "192.0.2.1:8000:80")) == expected

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ([{}], (0, "")),
            ([{"hash": "old"}], (None, "")),
            ([], (None, "")),
            ([{}, {"ready": False}], (1, "")),
            ([{"settled": False}], (1, "")),
            ([{"active": "failed", "reasons": ("exit-code",)}], (1, "failed: exit-code")),
            ([{"refused": True, "reasons": ("no room",)}], (1, "cannot be scheduled: no room")),
            ([{"ready": False, "finished": True}], (0, "")),
        ],
    )
    def test_how_far_a_unit_is(self, changes, expected):
        behind, hopeless = standing([LINE | change for change in changes], "new")
        assert (behind if behind is None else len(behind), hopeless) == expected

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ([{"ready": False}], ""),
            ([], "somebody has destroyed it"),
            ([{}, {"hash": "newer"}], "somebody has given it another text"),
            ([{"desired": "inactive"}], "somebody has stopped it"),
        ],
    )
    def test_what_others_did_meanwhile(self, changes, expected):
        assert meanwhile([LINE | {"desired": "launched"} | change for change in changes], "new") == expected

    def test_who_uses_others_stops_first(self):
        lines = [
            {"name": "db.container", "links": ()},
            {"name": "web@1.container", "links": ("db",)},
            {"name": "web@2.container", "links": ("db",)},
            {"name": "lb.container", "links": ("web",)},
        ]
        assert waves(lines) == [["lb.container"], ["web@1.container", "web@2.container"], ["db.container"]]
