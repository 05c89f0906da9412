-- States of the observer as they stood at the end of an hour in which something was observed, to go back to. `unix_ms` is
-- when the last request of the state ended.
CREATE TABLE states (
    unix_ms INTEGER PRIMARY KEY,
    state   BLOB    NOT NULL
) STRICT;
