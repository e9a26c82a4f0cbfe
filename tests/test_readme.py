"""What the README says is run: its files, its commands, and what they print.

Not run here: `make demo` and `make test` (they build an environment), `python -m tools.brokers` (the fixtures
do the same), and the bench (tests/bench does it with fewer tasks).
"""

from pathlib import Path

import pytest

from tests.markdown import Shell, files, snippets, steps
from tools.brokers import RabbitMQ, Redis

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE_AMQP = "amqp://guest:guest@localhost:5672//"
WORKER, CALL = "engine run app:app --concurrency 2", "engine call app:app app.add 2 3 --wait"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    for name, text in files(README).items():
        (tmp_path / name).write_text(text)
    return Shell(tmp_path)


def test_every_command_is_known_to_these_tests() -> None:
    tried = {WORKER, CALL, "ENGINE_BROKER_URL=redis://localhost:6379/0 engine run app:app"}
    for step in steps(README):
        assert step.command in tried or step.command.startswith(("make ", "engine bench")), step.command


def test_the_ten_lines(shell: Shell) -> None:
    said = {step.command: step.output for step in steps(README)}
    with shell.background(WORKER):
        assert shell.run(CALL) == said[CALL]
        assert shell.run("python client.py") == "5\n"


def test_publishing_plain_messages(shell: Shell) -> None:
    assert shell.run("python publish.py") == "1000 stored\n"
    assert "1,000" in shell.run("engine queues --broker sqlite:///orders.db -Q orders")


@pytest.mark.redis
def test_another_broker_from_the_environment(shell: Shell, redis_server: Redis, unique: str) -> None:
    shell.environ.update(
        ENGINE_BROKER_URL=redis_server.url,
        ENGINE_RESULT_BACKEND=redis_server.url,
        ENGINE_TASK_DEFAULT_QUEUE=unique,
    )
    with shell.background("engine run app:app"):
        assert shell.run(CALL) == "5\n"


@pytest.mark.amqp
@pytest.mark.interop
def test_a_celery_client(shell: Shell, rabbitmq: RabbitMQ, unique: str) -> None:
    app, client = shell.folder / "app.py", shell.folder / "celery_client.py"
    [with_broker] = [text for text in snippets(README) if "broker=" in text]
    assert EXAMPLE_AMQP in with_broker
    app.write_text(
        app.read_text().replace('app = Engine("app")', with_broker).replace(EXAMPLE_AMQP, rabbitmq.url)
    )
    text = client.read_text().replace(EXAMPLE_AMQP, rabbitmq.url)
    client.write_text(text.replace("(2, 3))", f"(2, 3), queue={unique!r})"))
    with shell.background(f"engine run app:app -Q {unique}"):
        assert shell.run("python celery_client.py") == "5\n"
    shell.run(f"python -c \"from app import app; app.open_transport().delete_queue('{unique}')\"")


def test_every_link_leads_somewhere() -> None:
    import re

    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
