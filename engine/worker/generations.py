"""The generations of the app's code that one worker goes through: the one in use, the one being loaded, and
those that were told to end and may still tell of a child they forked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from engine.worker.control import Channel
from engine.worker.generation import Generation
from engine.worker.lines import Lines


class Generations:
    """Keeps them.

    Args:
        lines: what the loop listens to.
        fork: makes the template of the generation of that number, which starts to load the app.
        on_message: hears what a template says.
        on_gone: hears of a template's end.
    """

    def __init__(
        self,
        lines: Lines,
        fork: Callable[[int], Generation],
        on_message: Callable[[Generation, dict[str, Any]], None],
        on_gone: Callable[[Generation], None],
    ) -> None:
        self.current: Generation | None = None
        self.loading: Generation | None = None
        self._retired: list[Generation] = []
        self._numbers = 0
        self._lines = lines
        self._fork = fork
        self._on_message = on_message
        self._on_gone = on_gone

    def channels(self) -> Iterator[Channel]:
        known = (self.current, self.loading, *self._retired)
        return (one.channel for one in known if one is not None)

    def load(self) -> None:
        """Fork a template; it answers when the app is loaded."""
        self.begin(self._fork(self._numbers + 1))

    def begin(self, generation: Generation) -> None:
        """A template is loading the app: listen to it."""
        self._numbers = generation.number
        self.loading = generation
        self._lines.listen(generation.channel, lambda: self._read(generation))

    def _read(self, generation: Generation) -> None:
        for message in generation.channel.receive():
            self._on_message(generation, message)
        if generation.channel.eof:
            self._lines.forget(generation.channel)
            if generation in self._retired:
                self._retired.remove(generation)
            self._on_gone(generation)

    def adopt(self, generation: Generation) -> None:
        """It is loaded: children come from it from now on, and the one before it is told to end."""
        if self.current is not None:
            self.current.channel.send({"op": "stop"})
            self._retired.append(self.current)
        self.loading, self.current = None, generation

    def stop_loading(self) -> None:
        """The worker stops: whatever is being loaded is not wanted any more."""
        if self.loading is not None:
            self._lines.forget(self.loading.channel)
            self.loading.kill()
            self.loading = None

    def end(self) -> None:
        """Let the templates run their shutdown, then see that they are gone."""
        for generation in (self.current, self.loading):
            if generation is not None:
                generation.end()
