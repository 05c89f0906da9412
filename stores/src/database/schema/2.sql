-- The records stay in the files of the log, where `seq` is their position; here stands what finds them.
-- `outcome` is the outcome as feedback has changed it, null = as in the record. `record` is the record of
-- requests from before this version, whose files are gone; null = in the log.
CREATE TABLE records (
    seq        INTEGER PRIMARY KEY,
    request_id TEXT    NOT NULL UNIQUE,
    outcome    TEXT,
    record     TEXT
) STRICT;
INSERT INTO records (seq, request_id, outcome, record) SELECT seq, request_id, outcome, record FROM requests;
DROP TABLE requests;

-- What is constant under a configuration, by the start of its hash. `told` is where it last stood in the log.
CREATE TABLE constants (
    hash    BLOB    PRIMARY KEY,
    told    INTEGER NOT NULL,
    content BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
