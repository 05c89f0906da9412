CREATE TABLE runs (
    id         TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    workflow   TEXT NOT NULL,
    state      TEXT NOT NULL,
    -- When a worker may take it; NULL = not without a word from outside.
    due_ms     INTEGER,
    -- When it expires; NULL = it has ended.
    expires_ms INTEGER,
    ended_ms   INTEGER,
    head       TEXT NOT NULL,
    submission TEXT NOT NULL,
    waiting    TEXT,
    result     TEXT
) STRICT;
CREATE INDEX runs_listed ON runs (tenant, created_ms DESC, id DESC);
CREATE INDEX runs_due ON runs (due_ms, id) WHERE due_ms IS NOT NULL;
CREATE INDEX runs_expiring ON runs (expires_ms) WHERE expires_ms IS NOT NULL;
CREATE INDEX runs_ended ON runs (ended_ms) WHERE ended_ms IS NOT NULL;

CREATE TABLE journal (
    run    TEXT NOT NULL,
    seq    INTEGER NOT NULL,
    ts_ms  INTEGER NOT NULL,
    epoch  INTEGER NOT NULL,
    kind   TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE posts (
    run    TEXT NOT NULL,
    number INTEGER NOT NULL,
    ts_ms  INTEGER NOT NULL,
    key    TEXT NOT NULL,
    body   TEXT NOT NULL,
    PRIMARY KEY (run, number),
    UNIQUE (run, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    tenant     TEXT NOT NULL,
    principal  TEXT NOT NULL,
    route      TEXT NOT NULL,
    key        TEXT NOT NULL,
    body       TEXT NOT NULL,
    run        TEXT NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, principal, route, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_expiring ON keys (expires_ms);

CREATE TABLE plans (
    hash TEXT PRIMARY KEY,
    plan TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE webhooks (
    id       TEXT PRIMARY KEY,
    run      TEXT NOT NULL,
    url      TEXT NOT NULL,
    tries    INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    due_ms   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX webhooks_due ON webhooks (due_ms);
CREATE INDEX webhooks_run ON webhooks (run);
