"""The notes with Flask and Flask-SQLAlchemy, after their quick starts."""

import os

from flask import Flask, jsonify, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import BigInteger, DateTime, Identity, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["BENCH_DATABASE"]
app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_size": 10, "max_overflow": 0}
db = SQLAlchemy(model_class=Base)
db.init_app(app)


class Note(db.Model):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    text: Mapped[str]
    version: Mapped[int] = mapped_column(server_default="1")
    created = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated = mapped_column(DateTime(timezone=True), server_default=func.now())

    def as_json(self):
        return {
            "id": self.id,
            "text": self.text,
            "version": self.version,
            "created": self.created.isoformat(),
            "updated": self.updated.isoformat(),
        }


@app.get("/api/notes")
def notes():
    found = db.session.execute(db.select(Note).order_by(Note.id.desc()).limit(20)).scalars()
    return jsonify(notes=[note.as_json() for note in found])


@app.post("/api/notes")
def write():
    note = Note(text=request.get_json()["text"])
    db.session.add(note)
    db.session.flush()
    shown = note.as_json()
    db.session.commit()
    return jsonify(shown), 201
