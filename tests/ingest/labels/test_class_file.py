"""classes.csv: what the values of masks are called."""

import pytest

from defectline.components.common.errors import SourceError
from defectline.components.common.legend import write_legend
from defectline.components.ingest.labels.class_file import parse_class_file


@pytest.mark.parametrize(
    ("text", "legend"),
    [
        ("value,name\n1,crack\n2,dust\n", write_legend(["crack", "dust"])),
        ("\ufeffValue, Name\r\n2,dust\r\n\r\n1, crack \r\n", write_legend(["crack", "dust"])),
        ("value,name\n0,background\n3,crack\n255,ignore\n", write_legend(["1", "2", "crack"])),
        ("value,name\n255,scratch\n", write_legend("scratch")),
        ("value,name\n0,good\n", ""),
    ],
)
def test_names_of_values(text: str, legend: str):
    assert parse_class_file(text.encode()) == legend


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (b"", "the first line ''"),
        (b"name,value\n", "the first line 'name,value'"),
        (b"value,name\n1\n", "line 2: '1'"),
        (b"value,name\n1,\n", "line 2: '1,'"),
        (b"value,name\nx,crack\n", "line 2: 'x,crack'"),
        (b"value,name\n1,a\n1,b\n", "two names of the value 1: a and b"),
        (b"value,name\n128,a\n", "the value 128 in line 2"),
        (b"value,name\n1,\xff\n", "not UTF-8"),
        (b'value,name\n1,"a\n', "unexpected end"),
    ],
)
def test_a_malformed_file_is_refused(data: bytes, got: str):
    with pytest.raises(SourceError, match=r"classes\.csv cannot be read") as caught:
        parse_class_file(data)
    assert got in caught.value.got
