"""Text files with numbers: what can mean one thing only is read, the rest is refused with the advice that helps."""

import io

import numpy as np
import pytest

from thermokernels.model.files.text_numbers import read_numbers

pytestmark = pytest.mark.small

W = np.array([[0.5, -0.25], [1.5, 0.0], [-2.0, 1e-3]])


def table(tmp_path, content, encoding="utf-8"):
    path = tmp_path / "W.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return read_numbers(path, "the model file W.csv")


def written(separator, **options):
    buffer = io.StringIO()
    np.savetxt(buffer, W, delimiter=separator, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("separator", [",", ";", "\t", " ", ", ", " ; ", "    "])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_what_numpy_writes_is_read(tmp_path, separator, ending, encoding):
    text = written(separator, header="couplings, visible x hidden; 0.5 1").replace("\n", ending)
    np.testing.assert_array_equal(table(tmp_path, text, encoding), W)
    np.testing.assert_array_equal(table(tmp_path, ending + text + ending, encoding), W)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("sep=;\n1.5;2\n-1;0.5\n", [[1.5, 2], [-1, 0.5]]),
        ('"1.5", 2e-3\n\n-3,.5\n', [[1.5, 0.002], [-3, 0.5]]),
        ("1,-1\n-1,1\n", [[1, -1], [-1, 1]]),
        ("1,1\n-1,1\n", [[1, 1], [-1, 1]]),
        ("1 25\n0 5\n", [[1, 25], [0, 5]]),  # blanks part numbers, and never digits
        ("+1\n-1\n", [[1], [-1]]),
        ("3,1\n2,0\n", [[3, 1], [2, 0]]),
        ("0.0,1\n1,0.0\n", [[0, 1], [1, 0]]),
        ("1,2,3\n2,-3,1\n", [[1, 2, 3], [2, -3, 1]]),
        ("0.25,1,2\n", [[0.25, 1, 2]]),
        ("nan,1.0\n-inf,2.0", [[np.nan, 1], [-np.inf, 2]]),  # who wants finite ones says which is not
    ],
)
def test_what_can_mean_one_thing_only_is_read(tmp_path, text, rows):
    np.testing.assert_array_equal(table(tmp_path, text), rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # pandas: DataFrame(W).to_csv, with and without its index and its header
        ("0,1\n0.5,-0.25\n1.5,0.0\n", r"its first line must be numbers of the table and not of its columns; line 1 begins 0,1,"),
        (",0,1\n0,0.5,-0.25\n1,1.5,0.0\n", r"line 1, entry 1 is '': write the numbers alone, .*header=False, index=False"),
        ("0,0.5,-0.25\n1,1.5,0.0\n2,-2.0,0.001\n", r"its first column must be numbers of the table and not of its rows; it begins 0,1,2"),
        ("0\n1.5\n-0.5\n", "its first line must be numbers of the table and not of its columns; line 1 begins 0,"),
        ("10,20\n0.5,-0.25\n", "line 1 begins 10,20, which may be either"),
        ("1,0.5,-0.25\n2,1.5,0.0\n", "its first column must be numbers of the table and not of its rows; it begins 1,2"),
        ("0,1\n1,1\n", "may be either: .*write 0.0 for a number 0"),
        ("h0,h1\n0.5,-0.25\n", "line 1, entry 1 is 'h0': write the numbers alone"),
        ("0.5,-0.25\n1.5,x\n", r"line 2, entry 2 is 'x'$"),
        # decimal commas
        ("1,25\n-0,5\n0,75\n", r"1,25 in line 1 may also be one number with a decimal comma: write decimal points \(pandas: decimal='.'\)"),
        ("1,25\n2,5\n", "may also be one number with a decimal comma"),
        ("1,05,2,5\n", "may also be one number with a decimal comma"),
        ("1,25;-0,5\n", "line 1, entry 1 is '1,25', with a decimal comma: write decimal points"),
        ('"1,25","0,5"\n', "entry 1 is '1,25', with a decimal comma"),
        ("1,25\t-0,5\n", "with a decimal comma"),
        # what Python takes for a number and a reader does not
        ("1_0,2.5\n", "line 1, entry 1 is '1_0'"),
        ("2.5,1_0\n3.5,1_0\n", "line 1, entry 2 is '1_0'"),
        ("\u0661,2.5\n", "line 1, entry 1 is "),
        ("1.0d0,2.5\n", "entry 1 is '1.0d0'"),
        ("0x10\n", "entry 1 is '0x10'"),
        ("1.5+2j\n", "entry 1 is '1.5\\+2j'"),
        ("1.5,2.5,\n", "entry 3 is ''"),
        ("1.5 2.5,3.5\n", "entry 1 is '1.5 2.5'"),
        ("1.5,2.5\n1.5\n", "rows must have one length; line 1 has 2 entries and line 2 has 1"),
        ("# only words\n\n", "it must hold rows of numbers parted by commas, semicolons, tabs or blanks; it is empty"),
        ("sep=;\n", "it is empty"),
        ('"1.5\n2.5"\n', r"line 1, entry 1 is '\"1.5'"),
        ('"1.5\n2.5",1.5\n', "it cannot be read"),
        ("1.5".encode("utf-16-le"), "it holds NUL characters"),
        (b"\xff1.5", "it must be text in UTF-8, or in UTF-16 with its mark; it cannot be read"),
        ("9" * 5000 + ",1.5\n2.5,1.5\n" + "x", "entry 1 is 'x'"),
    ],
)  # fmt: skip
def test_what_can_mean_two_things_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=f"^the model file W.csv: .*{message}"):
        table(tmp_path, text)
