"""Damaged state folders (cut, changed, emptied, lost files): a start is right, or stops with a hint."""
