"""Names of the columns that every stage of a plan shares."""

#: First character of a column that exists only within a computation. No column of a record begins with it.
INTERNAL = "\x1f"


#: Column of every table that says where a row starts in its file: 1-based physical line (CSV) or sheet row.
ROW = "_row"


#: Columns of records: what tells one apart, and the array element (a cluster of variants) it belongs to.
KEY = "_key"


ITEM = "_item"


#: Column of records that an earlier file brought and that go with a later one: run (its id), file (its name) and row
#: (the line there). Null where ROW says it; missing where nothing came so.
ORIGIN = "_origin"


#: Columns of a rejections frame. `value` is the cell as text; never written to a log.
REJECTION_COLUMNS = ("row", "column", "code", "value", "message", "hint")


#: Column of *accepted*: the record was switched off by us because its source no longer had it.
DEACTIVATED = "_deactivated"


#: Column of *accepted*, where it is needed: Connect took the record in part and did not say which.
PARTIAL = "_partial"


#: Before the name of a column: whether its value is another feed's, see `etl.plan.changes.ownership`.
OWNED_ELSEWHERE = f"{INTERNAL}owned_elsewhere "


#: Columns of a comparison: whether Norce has no such active record, and whether it has one that was deactivated.
NEW, REAPPEARED = "_new", "_back"


#: After the name of a column: its accepted value, beside the value of the file.
ACCEPTED_SUFFIX = f"{INTERNAL}accepted"


#: Before the name of a column: whether an earlier file has said its value, and it is not only what Norce has.
STATED = "_stated "
