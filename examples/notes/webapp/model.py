"""A note as the database holds it, and each thing done to notes as one statement."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Identity, MetaData, Text, delete, func, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from .etag import Tags
from .listing import Listing


class Base(DeclarativeBase):
    """Every table of the application; constraints have names, so that migrations can speak of them."""

    metadata = MetaData(naming_convention={"pk": "%(table_name)s_pkey"})


class Note(Base):
    """A text somebody wrote. `version` counts its changes: it is the entity tag, and guards updates."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(server_default="1")
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    def as_json(self) -> dict[str, Any]:
        """The note as the API shows it; times are RFC 3339 in UTC."""
        return {
            "id": self.id,
            "text": self.text,
            "version": self.version,
            "created": _timestamp(self.created),
            "updated": _timestamp(self.updated),
        }


def page_of_notes(db: Session, listing: Listing) -> Sequence[Note]:
    """The notes of a page, and one more if there is a next page."""
    query = select(Note).order_by(Note.id.desc()).limit(listing.limit + 1)
    if listing.after is not None:
        query = query.where(Note.id < listing.after)
    if listing.query:
        query = query.where(Note.text.icontains(listing.query, autoescape=True))
    return db.scalars(query).all()


def add_note(db: Session, text: str) -> Note:
    """Keep a new note."""
    return db.scalars(insert(Note).returning(Note), [{"text": text}]).one()


def replace_text(db: Session, number: int, tags: Tags, text: str) -> Note | None:
    """Give a note a new text if it is still at a version of `tags`; None if it is not, or is not there.

    One statement compares and writes: of two writers who read the same version, one gets None.
    """
    change = update(Note).values(text=text, version=Note.version + 1, updated=func.now())
    return db.scalars(_only(change, number, tags).returning(Note)).one_or_none()


def remove_note(db: Session, number: int, tags: Tags) -> bool:
    """Delete a note if it is still at a version of `tags`; whether it was."""
    return db.scalars(_only(delete(Note), number, tags).returning(Note.id)).one_or_none() is not None


def _only(statement: Any, number: int, tags: Tags) -> Any:
    chosen = statement.where(Note.id == number)
    return chosen if tags.any else chosen.where(Note.version.in_(tags.versions))


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
