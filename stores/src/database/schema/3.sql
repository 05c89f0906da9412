-- What was used and what it cost, by day (counted from 1970-01-01, UTC) and by whom. Requests, successes, failed,
-- images and the comparison stand at the model that answered, calls, tokens and cost at the one that was called.
CREATE TABLE used (
    day                 INTEGER NOT NULL,
    tenant              TEXT    NOT NULL,
    key                 TEXT    NOT NULL,
    workflow            TEXT    NOT NULL,
    model               TEXT    NOT NULL,
    requests            INTEGER NOT NULL,
    successes           INTEGER NOT NULL,
    failed              INTEGER NOT NULL,
    images              INTEGER NOT NULL,
    calls               INTEGER NOT NULL,
    unpriced_calls      INTEGER NOT NULL,
    input_tokens        INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL,
    cache_write_tokens  INTEGER NOT NULL,
    output_tokens       INTEGER NOT NULL,
    reasoning_tokens    INTEGER NOT NULL,
    cost_nanos          INTEGER NOT NULL,
    compared_nanos      INTEGER NOT NULL,
    reference_nanos     INTEGER NOT NULL,
    PRIMARY KEY (day, tenant, key, workflow, model)
) STRICT, WITHOUT ROWID;

-- The same by tag: a request counts once under each of its tags.
CREATE TABLE used_tags (
    day                 INTEGER NOT NULL,
    tenant              TEXT    NOT NULL,
    tag                 TEXT    NOT NULL,
    requests            INTEGER NOT NULL,
    successes           INTEGER NOT NULL,
    failed              INTEGER NOT NULL,
    images              INTEGER NOT NULL,
    calls               INTEGER NOT NULL,
    unpriced_calls      INTEGER NOT NULL,
    input_tokens        INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL,
    cache_write_tokens  INTEGER NOT NULL,
    output_tokens       INTEGER NOT NULL,
    reasoning_tokens    INTEGER NOT NULL,
    cost_nanos          INTEGER NOT NULL,
    compared_nanos      INTEGER NOT NULL,
    reference_nanos     INTEGER NOT NULL,
    PRIMARY KEY (day, tenant, tag)
) STRICT, WITHOUT ROWID;
