"""What users see of errors."""

from psegan.common.errors import printable


def test_a_text_is_one_line_whatever_name_it_holds():
    assert printable("a\nb\x1b[31m\u2028\x85\udce9.wav") == "a\\nb\\x1b[31m\\u2028\\x85\\udce9.wav"
    assert printable("Übung 1\u3000会話 (é).wav") == "Übung 1\u3000会話 (é).wav"
