"""The notes with FastAPI on its event loop alone: `async def`, SQLAlchemy's AsyncSession, psycopg."""

import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi_notes import NewNote, Note, Notes, ShownNote
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

engine = create_async_engine(os.environ["BENCH_DATABASE"], pool_size=10, max_overflow=0)
app = FastAPI()


async def session() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine) as opened:
        yield opened


SessionDep = Annotated[AsyncSession, Depends(session)]


@app.get("/api/notes", response_model=Notes)
async def notes(db: SessionDep):
    return {"notes": (await db.scalars(select(Note).order_by(Note.id.desc()).limit(20))).all()}


@app.post("/api/notes", status_code=201, response_model=ShownNote)
async def write(new: NewNote, db: SessionDep):
    note = Note(text=new.text)
    db.add(note)
    await db.flush()
    shown = ShownNote.model_validate(note)
    await db.commit()
    return shown
