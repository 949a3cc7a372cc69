"""A note as the database holds it, and each thing done to notes as one statement."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    Identity,
    MetaData,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from kirsch.web import Tags

from .etag import versions
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


# Requests read and write rows of the table: they have no use for objects that track their own changes.
_NOTES: Any = Note.__table__
_NOTE = (_NOTES.c.id, _NOTES.c.text, _NOTES.c.version, _NOTES.c.created, _NOTES.c.updated)
_NEWEST = select(*_NOTE).order_by(_NOTES.c.id.desc()).limit(bindparam("most"))
_ONE = select(*_NOTE).where(_NOTES.c.id == bindparam("number"))
_ADD = insert(_NOTES).returning(*_NOTE)
_REPLACE = update(_NOTES).values(version=_NOTES.c.version + 1, updated=func.now()).returning(*_NOTE)
_REMOVE = delete(_NOTES).returning(_NOTES.c.id)


def as_json(note: Any) -> dict[str, Any]:
    """A note as the API shows it; times are RFC 3339 in UTC."""
    number, text, version, created, updated = note
    return {
        "id": number,
        "text": text,
        "version": version,
        "created": (first := _timestamp(created)),
        "updated": first if updated == created else _timestamp(updated),
    }


def page_of_notes(db: Session, listing: Listing) -> Sequence[Any]:
    """The notes of a page, and one more if there is a next page."""
    query = _NEWEST
    if listing.after is not None:
        query = query.where(_NOTES.c.id < listing.after)
    if listing.query:
        query = query.where(_NOTES.c.text.icontains(listing.query, autoescape=True))
    return db.execute(query, {"most": listing.limit + 1}).all()


def find_note(db: Session, number: int) -> Any | None:
    """The note with this number."""
    return db.execute(_ONE, {"number": number}).one_or_none()


def add_note(db: Session, text: str) -> Any:
    """Keep a new note."""
    return db.execute(_ADD, {"text": text}).one()


def replace_text(db: Session, number: int, tags: Tags, text: str) -> Any | None:
    """Give a note a new text if it is still at a version of `tags`; None if it is not, or is not there.

    One statement compares and writes: of two writers who read the same version, one gets None.
    """
    return db.execute(_only(_REPLACE.values(text=text), number, tags)).one_or_none()


def remove_note(db: Session, number: int, tags: Tags) -> bool:
    """Delete a note if it is still at a version of `tags`; whether it was."""
    return db.execute(_only(_REMOVE, number, tags)).one_or_none() is not None


def _only(statement: Any, number: int, tags: Tags) -> Any:
    chosen = statement.where(_NOTES.c.id == number)
    return chosen if tags.any else chosen.where(_NOTES.c.version.in_(versions(tags)))


def _timestamp(moment: datetime) -> str:
    return f"{moment.astimezone(UTC).isoformat(timespec='milliseconds')[:-6]}Z"
