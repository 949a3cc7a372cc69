"""State that the keywords of a suite share: applications, browser, loads."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from kirsch.robot.application import Application
from kirsch.robot.browser import Browser
from kirsch.robot.cluster import Cluster
from kirsch.robot.http import Load

# How long keywords wait, where a suite does not say.
PATIENCE = timedelta(seconds=30)


@dataclass
class Session:
    """State between one keyword and the next."""

    applications: dict[Path, Application] = field(default_factory=dict)
    browser: Browser = field(default_factory=Browser)
    loads: list[Load] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    current: Application | None = None
    cluster: Cluster | None = None

    @property
    def application(self) -> Application:
        """The application that was started last."""
        if self.current is None:
            raise AssertionError("no application was started: use `Start Application` first")
        return self.current

    def url(self, path: str) -> str:
        """A whole address: `path` at the application's, if it is no whole address itself."""
        if "://" in path:
            return path
        return self.application.address.rstrip("/") + "/" + path.removeprefix("/")

    def end(self) -> None:
        """Stop and remove everything that is still there."""
        for load in self.loads:
            load.stop()
        try:
            for application in self.applications.values():
                application.stop()
        finally:
            for application in self.applications.values():
                application.remove()
            self.applications.clear()
            self.current = None
            self.browser.close()
            if self.cluster is not None and self.cluster.there:
                self.cluster.destroy()
            self.cluster = None


class Keywords:
    """Base of every group of keywords."""

    session: Session
