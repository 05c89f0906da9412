-- Tenants, keys, bundles and whatever else the control plane keeps: one document each.
CREATE TABLE objects (
    kind       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    version    INTEGER NOT NULL CHECK (version > 0),
    doc        TEXT    NOT NULL,
    sealed     BLOB    NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
