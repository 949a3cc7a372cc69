"""The notes with Django: its ORM, its pool, a model and two views.

By default Django commits each statement by itself; $BENCH_ATOMIC has a transaction around each view.
"""

import json
import os

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="bench",
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    MIDDLEWARE=["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"],
    APPEND_SLASH=False,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["BENCH_HOST"],
            "USER": "notes",
            "PASSWORD": os.environ["BENCH_PASSWORD"],
            "NAME": "notes",
            "ATOMIC_REQUESTS": "BENCH_ATOMIC" in os.environ,
            "OPTIONS": {"pool": {"min_size": 10, "max_size": 10}},
        }
    },
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import models  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402


class Note(models.Model):
    id = models.BigAutoField(primary_key=True)
    text = models.TextField()
    version = models.IntegerField(default=1)
    created = models.DateTimeField(default=timezone.now)
    updated = models.DateTimeField(default=timezone.now)

    class Meta:
        app_label = "bench"
        db_table = "notes"

    def as_json(self):
        return {
            "id": self.id,
            "text": self.text,
            "version": self.version,
            "created": self.created,
            "updated": self.updated,
        }


def notes(request):
    if request.method == "POST":
        note = Note.objects.create(text=json.loads(request.body)["text"])
        return JsonResponse(note.as_json(), status=201)
    return JsonResponse({"notes": [note.as_json() for note in Note.objects.order_by("-id")[:20]]})


urlpatterns = [path("api/notes", notes)]
application = get_wsgi_application()
