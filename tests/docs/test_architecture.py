"""The picture in docs/architecture.md agrees with the layers that import-linter holds."""

import re
import tomllib
from pathlib import Path


def layers() -> dict[str, int]:
    """Room → its layer, counted from the top."""
    (contract,) = (
        contract
        for contract in tomllib.loads(Path("pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    )
    rows = [[name.strip(" ()").removeprefix("psegan.") for name in re.split("[|:]", row)] for row in contract["layers"]]
    return {room: depth for depth, row in enumerate(rows) for room in row}


def test_the_picture_has_every_room_and_no_arrow_that_goes_up(from_repository):
    text = Path("docs/architecture.md").read_text()
    (picture,) = re.findall(r"flowchart TD\n(.*?)```", text, flags=re.DOTALL)
    arrows = re.findall(r"(\w+) --> (\w+)", picture)
    depth = layers()
    assert len(arrows) == len(picture.splitlines())
    assert set(depth) <= {room for arrow in arrows for room in arrow}
    assert set(depth) <= set(re.findall(r"^\*\*(\w+)\*\*", text, flags=re.MULTILINE)), "a room without its paragraph"
    for above, below in arrows:
        if above in depth and below in depth:
            assert depth[above] < depth[below], f"{above} --> {below} goes up"
