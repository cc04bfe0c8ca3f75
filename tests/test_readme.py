"""What the README shows runs."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def test_the_python_examples_run_and_their_comments_hold(capsys):
    first, gated = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict = {}
    exec(compile(first, "README.md", "exec"), names)
    others: dict = {"dmbp": names["dmbp"]}
    exec(compile(gated, "README.md", "exec"), others)
    assert others["a"].values.shape == (2, 7)
    assert others["a"].finite.all()
    assert names["tabby"] == 281
    assert names["a"].values.shape == (1, 224, 224, 3)
    assert names["a"].heatmap.shape == (1, 224, 224)
    assert capsys.readouterr().out.startswith("y = ")


def test_the_pictures_are_there():
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert pictures
    for picture in pictures:
        assert (Path(__file__).parents[1] / picture).is_file(), picture
