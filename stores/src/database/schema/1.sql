-- Requests at their end. `seq` is the position in the log; `record` is the line of the log as it was
-- written; `outcome` is the outcome as feedback has changed it since, null = as in the record.
CREATE TABLE requests (
    seq        INTEGER PRIMARY KEY,
    request_id TEXT    NOT NULL UNIQUE,
    ts_ms      INTEGER NOT NULL,
    tenant     TEXT    NOT NULL,
    family     TEXT    NOT NULL,
    cell       TEXT    NOT NULL,
    workflow   TEXT    NOT NULL,
    model      TEXT    NOT NULL,
    served_by  TEXT,
    status     TEXT    NOT NULL,
    verdict    TEXT    NOT NULL,
    reward     REAL,
    cost_nanos INTEGER NOT NULL,
    tokens     INTEGER NOT NULL,
    ttft_ms    REAL,
    total_ms   REAL    NOT NULL,
    record     TEXT    NOT NULL,
    outcome    TEXT
) STRICT;
CREATE INDEX requests_by_time ON requests (ts_ms);

-- Every word on a request. `applied` is the position at which it took effect: its own, or the request's if
-- that came later. `outcome` is the request's outcome after it.
CREATE TABLE feedback (
    seq        INTEGER PRIMARY KEY,
    applied    INTEGER NOT NULL,
    request_id TEXT    NOT NULL,
    source     TEXT    NOT NULL,
    ts_ms      INTEGER NOT NULL,
    score      REAL    NOT NULL,
    reason     TEXT,
    superseded INTEGER NOT NULL DEFAULT 0,
    outcome    TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX feedback_current ON feedback (request_id, source) WHERE superseded = 0;
CREATE INDEX feedback_by_request ON feedback (request_id, applied, seq);
CREATE INDEX feedback_by_application ON feedback (applied, seq);

-- Words whose request has not come yet.
CREATE TABLE orphans (
    seq        INTEGER PRIMARY KEY,
    request_id TEXT    NOT NULL,
    word       TEXT    NOT NULL
) STRICT;
CREATE INDEX orphans_by_request ON orphans (request_id, seq);

-- Lines that are whole but make no sense to this version: kept, so that a later one can read them.
CREATE TABLE unreadable (
    seq     INTEGER PRIMARY KEY,
    error   TEXT    NOT NULL,
    payload BLOB    NOT NULL
) STRICT;

-- Counts and sums per minute and model (the one that answered, else the one chosen).
CREATE TABLE rollups (
    minute        INTEGER NOT NULL,
    model         TEXT    NOT NULL,
    requests      INTEGER NOT NULL,
    delivered     INTEGER NOT NULL,
    passed        INTEGER NOT NULL,
    failed        INTEGER NOT NULL,
    repaired      INTEGER NOT NULL,
    rewarded      INTEGER NOT NULL,
    reward_sum    REAL    NOT NULL,
    cost_nanos    INTEGER NOT NULL,
    input_tokens  INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    ttft_count    INTEGER NOT NULL,
    ttft_ms_sum   REAL    NOT NULL,
    total_ms_sum  REAL    NOT NULL,
    PRIMARY KEY (minute, model)
) STRICT, WITHOUT ROWID;

-- What the observer gave, and the position up to which it had observed then.
CREATE TABLE observer_state (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    state    BLOB    NOT NULL,
    position INTEGER NOT NULL
) STRICT;

-- `position`: everything before it in the log is in this database.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('position', 0);
