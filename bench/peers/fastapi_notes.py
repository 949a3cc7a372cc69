"""The notes with FastAPI, after its tutorial: `def` functions, a session by Depends, response models."""

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import BaseModel, ConfigDict
from sqlalchemy import BigInteger, DateTime, Identity, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine(os.environ["BENCH_DATABASE"], pool_size=10, max_overflow=0)
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    text: Mapped[str]
    version: Mapped[int] = mapped_column(server_default="1")
    created = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated = mapped_column(DateTime(timezone=True), server_default=func.now())


class NewNote(BaseModel):
    text: str


class ShownNote(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    text: str
    version: int
    created: datetime
    updated: datetime


class Notes(BaseModel):
    notes: list[ShownNote]


def session() -> Iterator[Session]:
    with Session(engine) as opened:
        yield opened


SessionDep = Annotated[Session, Depends(session)]


@app.get("/api/notes", response_model=Notes)
def notes(db: SessionDep):
    return {"notes": db.scalars(select(Note).order_by(Note.id.desc()).limit(20)).all()}


@app.post("/api/notes", status_code=201, response_model=ShownNote)
def write(new: NewNote, db: SessionDep):
    note = Note(text=new.text)
    db.add(note)
    db.flush()
    shown = ShownNote.model_validate(note)
    db.commit()
    return shown
