"""Each layout is that of one reader."""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest
from labelled import listing, same, truth
from layouts import LAYOUTS, expected, part_of
from parts import PARTS

from defectline.components.ingest import readers
from defectline.components.ingest.readers import choose
from defectline.components.ingest.readers.base import Reader


def all_readers() -> dict[str, Reader]:
    modules = [
        import_module(f"{readers.__name__}.{module.name}") for module in iter_modules(readers.__path__)
    ]
    return {module.NAME: module for module in modules if hasattr(module, "NAME")}


@pytest.mark.parametrize("example", LAYOUTS)
def test_an_example_fits_its_own_reader_alone(tmp_path: Path, example: str):
    name, write = LAYOUTS[example]
    found = listing(write(tmp_path))
    fitting = {other for other, reader in all_readers().items() if reader.fits(found)}
    assert fitting - {"folders"} == {name}


@pytest.mark.parametrize("example", LAYOUTS)
def test_an_example_shows_every_part(tmp_path: Path, example: str):
    name, write = LAYOUTS[example]
    found = listing(write(tmp_path))
    layout = all_readers()[name].read(found)
    assert not layout.rejected
    assert {part_of(record.stem).name for record in layout.records} == PARTS.keys()
    for record in layout.records:
        part = part_of(record.stem)
        assert same(truth(record, found), expected(name, part))


@pytest.mark.parametrize("example", LAYOUTS)
def test_an_example_is_recognized(tmp_path: Path, example: str):
    name, write = LAYOUTS[example]
    reader, why = choose(listing(write(tmp_path)))
    assert (reader.NAME, bool(why)) == (name, True)
