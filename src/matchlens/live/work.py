"""One model run at a time; a newer request of a browser removes its older ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from matchlens.errors import InputError, counted
from matchlens.signals import Cancelled, cancellable

MOST_WAITING = 64
"""Jobs that wait at most."""

Tell = Callable[[Mapping[str, object]], None]
"""Takes what a browser is told, from any thread."""


@dataclass(eq=False)
class Job:
    """What one browser wants to be computed.

    Args:
        client: the browser's own name for itself.
        kind: ``score``, ``words``, ``why`` or ``page``.
        work: computes it, and tells parts of it on the way.
        tell: takes places in the queue, parts, and at last ``result``, ``error`` or ``cancelled``.
        replaces: kinds of older jobs of the same browser that this one makes pointless.
        urgent: whether it goes before those that are not.
    """

    client: str
    kind: str
    work: Callable[[Tell], Mapping[str, object]]
    tell: Tell
    replaces: Collection[str] = ()
    urgent: bool = False
    unwanted: threading.Event = field(default_factory=threading.Event)
    place: int = -1

    def run(self) -> None:
        """Compute it, unless it is cancelled meanwhile; a browser always hears the end."""
        try:
            with cancellable(self.unwanted.is_set):
                result = self.work(self.tell)
            self.tell({"cancelled": True} if self.unwanted.is_set() else {"result": result})
        except Cancelled:
            self.tell({"cancelled": True})
        except InputError as error:
            self.tell({"error": str(error)})
        except Exception as error:
            self.tell({"error": f"an error of matchlens itself: {type(error).__name__}"})
            raise


class Worker:
    """Runs jobs one by one: urgent ones first, else in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: list[Job] = []
        self._now: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="matchlens-live", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job, and cancel what it makes pointless."""
        with self._changed:
            for other in self._jobs():
                if other.client == job.client and other.kind in job.replaces:
                    self._cancel(other)
            if self._closed or len(self._waiting) >= MOST_WAITING:
                raise InputError(
                    f"{counted(len(self._waiting), 'request')} in the queue already; expected "
                    "fewer: wait a moment, and try again"
                )
            before = [other.urgent for other in self._waiting]
            last = before.count(True) if job.urgent else len(before)
            self._waiting.insert(last, job)
            self._say_places()
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Cancel a job whose result nobody waits for."""
        with self._changed:
            self._cancel(job)

    def close(self) -> None:
        """Cancel everything and end the thread, which looks between two layers."""
        with self._changed:
            self._closed = True
            for job in self._jobs():
                self._cancel(job)
            self._changed.notify()
        self._thread.join()

    def _jobs(self) -> list[Job]:
        return [*self._waiting, *([] if self._now is None else [self._now])]

    def _cancel(self, job: Job) -> None:
        job.unwanted.set()
        if job in self._waiting:
            self._waiting.remove(job)
            job.tell({"cancelled": True})
            self._say_places()

    def _say_places(self) -> None:
        ahead = int(self._now is not None)
        for place, job in enumerate(self._waiting):
            if job.place != place + ahead:
                job.place = place + ahead
                job.tell({"queue": job.place})

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._now = None
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                self._now = self._waiting.pop(0)
                self._say_places()
            try:
                self._now.run()
            except Exception as error:  # an error in one job must not end the others
                threading.excepthook(
                    threading.ExceptHookArgs((type(error), error, error.__traceback__, None))
                )
