"""Every example runs, from the outside, and says what it should."""

from pathlib import Path

import pytest

import engine.demo.word_count
from engine.transport import open_transport
from tests.markdown import Shell
from tools.brokers import RabbitMQ, Redis

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    for example in EXAMPLES.glob("*.py"):
        (tmp_path / example.name).write_text(example.read_text())
    return Shell(tmp_path)


def test_every_example_is_known_to_these_tests() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {"plain_messages.py", "word_count.py", "workflow.py"}


def test_the_demo_runs_the_example() -> None:
    shipped = Path(engine.demo.word_count.__file__)
    assert shipped.read_text() == (EXAMPLES / "word_count.py").read_text()


def test_word_count(shell: Shell) -> None:
    texts = shell.folder / "texts"
    texts.mkdir()
    (texts / "one.txt").write_text("one two three\n")
    (texts / "two.py").write_text("x = 1\n")
    with shell.background("engine run word_count.py -c 2"):
        assert shell.run("python word_count.py texts") == "2 files, 6 words\n"


def test_workflow(shell: Shell) -> None:
    with shell.background("engine run workflow.py -c 2"):
        assert shell.run("python workflow.py") == "one page: 12\nfour pages: [3, 12, 21, 30]\n"


def test_plain_messages(shell: Shell) -> None:
    assert shell.run("python plain_messages.py") == "100 confirmed\nsum of the numbers: 4950\n"


@pytest.mark.amqp
@pytest.mark.redis
def test_plain_messages_on_servers(
    shell: Shell, rabbitmq: RabbitMQ, redis_server: Redis, unique: str
) -> None:
    for url in (rabbitmq.url, redis_server.url):
        said = shell.run(f"python plain_messages.py {url} {unique}")
        assert said == "100 confirmed\nsum of the numbers: 4950\n"
        transport = open_transport(url)
        transport.delete_queue(unique)
        transport.close()
